"""vLLM as a server beside the trainer, which gets the policy's weights after every update."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdt.engines.served import ServerEngine, read_key
from fdt.engines.vllm.launch import DECIDED, build_settings, build_variables, find_python, format_option
from fdt.errors import UserError
from fdt.policy.policy import Policy
from feedback.gateway import Outage

if TYPE_CHECKING:
    from fdt.engines.completions import CompletionsClient, ServerUnavailable
    from fdt.engines.vllm.process import Child
    from fdt.engines.vllm.weight_sync import Server, ServerWeightSync

NAME = "policy"
DEATHS = 3
"""A server of our own that dies so often over the same answers is not started again."""
SET_HERE = {"--" + name.replace("_", "-") for name in (*DECIDED, "host", "port", "served_model_name", "api_key")}


@dataclass(frozen=True, kw_only=True)
class VLLMServer(ServerEngine):
    """A vLLM server beside the trainer, started by the run or running already, that gets the weights after each update.

    One of our own runs on 127.0.0.1 and ends with the run; each rank has its own. Answers are drawn from the
    policy's own distribution: temperature 1, nothing cut off, no penalty, none of the model's own generation settings.
    Weights are handed over by folder: adapters through the server's runtime LoRA endpoint, whole weights through its
    ``reload_weights`` call. A server that is killed is started again, or waited for, and gets the present weights
    before it answers.
    """

    url: str | None = None
    """Address of a running server up to and including /v1; null starts one."""
    key_variable: str | None = None
    """Name of the environment variable that holds a running server's key; null sends none."""
    python: str | None = None
    """Python of the environment that vLLM is installed in, which may be another one than the trainer's. Null: what the
    variable FDT_VLLM_PYTHON names, else this very Python."""
    dtype: str = "auto"
    """Of the server's weights: bfloat16, float16, float32, or auto, which is what the trainer holds the base in."""
    max_model_len: int | None = None
    """Longest conversation in tokens; null: as long as the model allows, which may need much memory."""
    arguments: list[str] = field(default_factory=list)
    """Further arguments of vLLM's, such as --gpu-memory-utilization=0.4."""
    folder: str | None = None
    """A folder that both sides see, for the weights; null: the place for temporary files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [a for a in self.arguments if a.partition("=")[0].replace("_", "-") in SET_HERE]
        if wrong:
            raise UserError(
                "this engine sets that itself",
                got=wrong[0],
                expected="other arguments of vLLM's",
                key="data.engine.init_args.arguments",
            )
        if self.url is not None and (self.python or self.arguments or self.max_model_len):
            raise UserError(
                "a running server is not started",
                got="url with python, arguments or max_model_len",
                expected="one or the other",
                key="data.engine.init_args.url",
            )

    def connect(self, policy: Policy) -> CompletionsClient:
        from fdt.engines.completions import CompletionsClient

        weights = self._state.weights
        server = self._ensure_server(policy)
        weights.server = server
        weights.sync(policy)
        name = weights.name if policy.lora is not None else NAME if self.url is None else _find_base_name(server)
        return CompletionsClient(server.url, server.key, name, policy.stop_ids, self.timeout, self.concurrency, 0)

    def check(self, policy: Policy) -> None:
        self._state.deaths = 0
        if policy.lora is None:  # else a server that was started anew would not know the adapter's name
            self._state.weights.verify()

    def handle_outage(self, away: ServerUnavailable) -> None:
        state = self._state
        state.weights.held = None
        if state.child is not None and not state.child.is_alive:
            state.deaths += 1
            if state.deaths >= DEATHS:
                raise Outage(
                    "VLLMServer",
                    None,
                    "data.engine",
                    f"a server that died {DEATHS} times over one call",
                    "one that lives",
                    f"The end of its log:\n{state.child.read_log_tail()}",
                )

    def close(self) -> None:
        """Ends the server, where it is this engine's own; the next answer starts another."""
        if self._state.child is not None:
            self._state.child.stop()
        self._state.child = None
        self._state.weights.held = None

    @cached_property
    def _state(self) -> State:
        return State(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: a server belongs to one process."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    def _ensure_server(self, policy: Policy) -> Server:
        from fdt.engines.vllm.weight_sync import Server

        if self.url is not None:
            return Server(self.url.rstrip("/"), read_key(self.key_variable), self.timeout, False)
        state = self._state
        if state.child is not None and not state.child.is_alive:
            self.close()
        if state.child is None:
            state.child = self._start(policy)
            state.ran = True
        return Server(state.child.url, state.child.key, self.timeout, True)

    def _start(self, policy: Policy) -> Child:
        from fdt.engines.completions import ServerUnavailable
        from fdt.engines.vllm.process import Child

        python = find_python(self.python)
        folder = Path(self._state.weights.place.name).resolve()
        command = [python, "-m", "vllm.entrypoints.openai.api_server", *self._build_options(policy)]
        child = Child(lambda port: [*command, "--port", str(port)], folder, build_variables(policy))
        try:
            child.wait(self.outage_timeout)
        except BaseException as fault:
            child.stop()
            if isinstance(fault, UserError) and self._state.ran:
                # It did come up before: a run with trained weights waits for it.
                raise ServerUnavailable(str(fault)) from fault
            raise
        return child

    def _build_options(self, policy: Policy) -> list[str]:
        settings = build_settings(policy, self.dtype, self.max_model_len)
        settings |= {"host": "127.0.0.1", "served_model_name": NAME}
        return [word for name, value in settings.items() for word in format_option(name, value)] + list(self.arguments)


class State:
    """What one process knows about its server."""

    def __init__(self, folder: str | None) -> None:
        from fdt.engines.vllm.weight_sync import ServerWeightSync

        self.weights: ServerWeightSync = ServerWeightSync(folder)
        self.child: Child | None = None
        self.ran = False
        self.deaths = 0


def _find_base_name(server: Server) -> str:
    """The name of the model that a running server has without adapters."""
    listed = server.call("/models", None, "name a server that serves model.base")
    return next(model["id"] for model in listed["data"] if not model.get("parent"))
