"""The policy's seat in an environment of verifiers: a harness that asks, and the endpoint that it asks, in one process.

verifiers runs an agent's program against an API. Here the program is a plain chat and the API stands on 127.0.0.1;
every request waits there until the policy has answered. Only `fdt.environments.verifiers` imports it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import httpx
import verifiers.v1 as vf
from aiohttp import web

from fdt.environments.base import EnvironmentFault
from fdt.errors import UserError

CLOSED = 410
"""Status of a request that nobody will answer any more."""


class PolicyServer:
    """A thread whose loop runs episodes, and the endpoint where their requests wait."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="verifiers", daemon=True).start()
        self.seats: dict[str, PolicySeat] = {}
        self.url = asyncio.run_coroutine_threadsafe(self._serve(), self.loop).result(60)

    async def _serve(self) -> str:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        seat = self.seats.get(body["model"])
        text = None if seat is None else await seat.ask(body["messages"])
        if text is None:
            return web.json_response({"error": {"message": "the episode was truncated"}}, status=CLOSED)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return web.json_response(
            {
                "id": uuid.uuid4().hex,
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
            }
        )


@lru_cache(maxsize=1)
def get_policy_server() -> PolicyServer:
    """The one of this process, made when it is first needed."""
    return PolicyServer()


class PolicySeat:
    """One episode in which the policy is one of the agents."""

    def __init__(self, env: vf.Env, task: vf.Task, name: str | None) -> None:
        self.server = get_policy_server()
        self.model = f"policy-{uuid.uuid4().hex}"
        self.name = name
        self.events: queue.Queue = queue.Queue()
        self.pending_request: asyncio.Future | None = None
        self.stopped = False
        self.trace: vf.Trace | None = None
        self.traces: list[vf.Trace] = []
        self.server.seats[self.model] = self
        self.episode_future = asyncio.run_coroutine_threadsafe(self._run_episode(env, task), self.server.loop)
        self.episode_future.add_done_callback(self.events.put)

    async def ask(self, messages: list[dict]) -> str | None:
        """The policy's answer to these messages; None where the episode was truncated."""
        if self.stopped:
            return None
        self.pending_request = self.server.loop.create_future()
        self.events.put(messages)
        return await self.pending_request

    def send_turn(self, text: str | None) -> None:
        """Answers the request that waits."""
        self.server.loop.call_soon_threadsafe(self._resolve_request, text)

    def _resolve_request(self, text: str | None) -> None:
        if self.pending_request is not None and not self.pending_request.done():
            self.pending_request.set_result(text)

    def stop(self) -> None:
        """Ends the exchange as a limit of verifiers would: what was answered is scored, nothing more is asked."""

        def end() -> None:
            self.stopped = True
            if self.trace is not None:
                self.trace.stop("max_turns")
            self._resolve_request(None)

        self.server.loop.call_soon_threadsafe(end)

    def wait(self, seconds: float) -> Any:
        """The messages of the next request, or the finished trace.

        Raises:
            EnvironmentFault: where the episode failed, or nothing came in time.
        """
        try:
            event = self.events.get(timeout=seconds)
        except queue.Empty:
            raise EnvironmentFault(f"nothing came from verifiers in {seconds:g} s") from None
        if not isinstance(event, Future):
            return event
        try:
            return event.result()
        except (EnvironmentFault, UserError):
            raise
        except (Exception, CancelledError) as fault:
            raise EnvironmentFault(f"{type(fault).__name__}: {fault}") from fault

    def close(self) -> None:
        """Gives up what still runs."""
        self.episode_future.cancel()
        self.server.seats.pop(self.model, None)

    async def _run_episode(self, env: vf.Env, task: vf.Task) -> vf.Trace:
        """Runs an episode as the environment has it and returns the policy's trace."""
        traces = self.traces
        agents = vf.Agents(env.config, lambda agent, spec: self._build_agent(env, agent, spec))
        await env.setup(agents)
        await env.run(task, agents)
        failed = next((trace.last_error for trace in traces if not trace.ok), None)
        if failed is not None:
            raise EnvironmentFault(f"{failed.type}: {failed.message}")
        about = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        await env.finalize(task, vf.Episode(env=vf.EnvInfo(id=env.config.env_id), traces=traces, task=about))
        if self.trace is None:
            raise EnvironmentFault("the policy's seat was never asked")
        return self.trace

    def _build_agent(self, env: vf.Env, agent: str, spec: vf.AgentConfig) -> RecordedAgent:
        """The agent of this name, with the policy behind it where the seat is its own."""
        alone = sum(isinstance(value, vf.AgentConfig) for _, value in env.config) == 1
        own = agent == self.name or (self.name is None and alone)
        if not own and spec.model is None:
            raise UserError(
                "an agent without a model",
                got=agent,
                key="data.environment.config",
                remedy="give it a model and a client, or name the policy's place as `seat`",
            )
        if own:
            program = spec.harness.id if spec.harness else vf.default_harness_id(env.config.taskset.id)
            if program not in (("null",) if spec.harness else ("null", "bash")):  # bash is what stands for no choice
                raise UserError(
                    "the policy's seat has a program of its own",
                    got=program,
                    expected="none, a plain chat",
                    key="data.environment.config",
                )
            client = vf.EvalClientConfig(base_url=self.server.url, api_key_var="FDT_NO_KEY")
            spec = spec.model_copy(
                update={
                    "model": self.model,
                    "client": client,
                    "runtime": vf.SubprocessConfig(),
                    "harness": vf.harness_config_type("null")(id="null"),
                }
            )
        return RecordedAgent(spec, self.traces, self if own else None)


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """The program: one request for each turn, in this process. It runs no code and has no tools."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Asks once, with the conversation so far; what comes back is in the trace already."""
        system, prompt = self.resolve_prompt(data)
        conversation = (
            [{"role": "user", "content": prompt}]
            if isinstance(prompt, str)
            else [message.model_dump(exclude_none=True) for message in prompt or []]
        )
        messages = ([{"role": "system", "content": system}] if system else []) + conversation
        async with httpx.AsyncClient(timeout=None, trust_env=False) as http:
            reply = await http.post(
                f"{endpoint}/chat/completions",
                json={"model": ctx.model, "messages": messages},
                headers={"Authorization": f"Bearer {secret}"},
            )
        reply.raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


class RecordedAgent(vf.Agent):
    """An agent whose traces are kept; the policy's has our program."""

    def __init__(self, config: vf.AgentConfig, traces: list[vf.Trace], seat: PolicySeat | None) -> None:
        super().__init__(config)
        self.traces = traces
        self.seat = seat
        if seat is not None:
            self.harness = ChatHarness(config.harness)

    async def run(self, task: vf.Task, **options: Any) -> vf.Trace:
        return await super().run(task, **options | {"on_trace": self._record_trace})

    @asynccontextmanager
    async def interaction(self, task: vf.Task, **options: Any) -> AsyncIterator[vf.Interaction]:
        async with super().interaction(task, **options | {"on_trace": self._record_trace}) as held:
            yield held

    def _record_trace(self, trace: vf.Trace) -> None:
        self.traces.append(trace)
        if self.seat is not None:
            self.seat.trace = trace
