"""vLLM as a server beside the trainer, which gets the policy's weights after every update."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fdt.distributed import get_rank, is_distributed, run_on_all
from fdt.engines.served import ServerEngine, read_key
from fdt.engines.vllm.launch import (
    DECIDED,
    build_settings,
    build_variables,
    choose_serving_dtype,
    find_python,
    format_option,
)
from fdt.errors import UserError
from fdt.policy.policy import Policy
from feedback.gateway import Outage

if TYPE_CHECKING:
    from fdt.engines.completions import CompletionsClient, ServerUnavailable
    from fdt.engines.vllm.pool import Member, PoolClient
    from fdt.engines.vllm.process import Child
    from fdt.engines.vllm.snapshot import Snapshot, SnapshotWriter
    from fdt.engines.vllm.transfer.weight_stream import StreamedWeights, WeightStream
    from fdt.engines.vllm.weight_sync import Server

NAME = "policy"
DEATHS = 3
"""A server of our own that dies so often over the same answers is not started again."""
SET_HERE = {"--" + name.replace("_", "-") for name in (*DECIDED, "host", "port", "served_model_name", "api_key")}


@dataclass(frozen=True, kw_only=True)
class VLLMServer(ServerEngine):
    """A vLLM server beside the trainer, started by the run or running already, that gets the weights after each update.

    One of our own runs on 127.0.0.1 and ends with the run; each rank has its own. Servers that run already are named by
    their addresses; all ranks use all of them, and where one is away the others answer for it. Answers are drawn from
    the policy's own distribution: temperature 1, nothing cut off, no penalty, none of the model's own generation
    settings. Adapters are handed over by folder, through the server's runtime LoRA endpoint; whole weights by folder,
    through its ``reload_weights`` call, or from memory to memory; sharded ones (FSDP2) are gathered on the way. A
    server that is killed is started again, or waited for, and gets the present weights before it answers.
    """

    url: str | list[str] | None = None
    """Address of a running server up to and including /v1, or of several; null starts one."""
    key_variable: str | None = None
    """Name of the environment variable that holds a running server's key; null sends none."""
    python: str | None = None
    """Python of the environment that vLLM is installed in, which may be another one than the trainer's. Null: what the
    variable FDT_VLLM_PYTHON names, else this very Python."""
    dtype: str = "auto"
    """Of the server's weights: bfloat16, float16, float32, or auto, which is what the trainer multiplies in: bfloat16
    also for whole float32 weights under trainer.precision bf16-mixed."""
    max_model_len: int | None = None
    """Longest conversation in tokens; null: as long as the model allows, which may need much memory."""
    gpu_memory_utilization: float = 0.4
    """Share of a card's memory that a server of our own may take, which leaves the rest to the trainer on it."""
    devices: list[int] = field(default_factory=list)
    """Cards of a server of our own, among those that the run sees; with several the model is split over them (tensor
    parallelism). Empty: the rank's own card."""
    arguments: list[str] = field(default_factory=list)
    """Further arguments of vLLM's, such as --max-num-seqs=64."""
    folder: str | None = None
    """A folder that both sides see, for the weights; null: the place for temporary files."""
    weight_transfer: Literal["folder", "ipc"] = "folder"
    """How whole weights get to the server. folder: as files, which also serve a server that is started anew. ipc:
    through memory that both processes map, a card's own by CUDA IPC, else the host's, a bucket at a time, so that no
    second copy of the model is held; under FSDP2 a server that dies between two updates then ends the run, with a
    checkpoint."""

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
        if self.url is not None and (self.python or self.arguments or self.max_model_len or self.devices):
            raise UserError(
                "a running server is not started",
                got="url with python, arguments, max_model_len or devices",
                expected="one or the other",
                key="data.engine.init_args.url",
            )

    def freeze(self, policy: Policy) -> VLLMServer:
        """This engine, answering with the weights that the policy has now; as `Engine.freeze`."""
        frozen = replace(self)
        snapshot = self._take(policy)
        vars(frozen).update(_state=self._state, _snapshot=snapshot)
        return frozen

    @property
    def keeps_versions(self) -> bool:
        return self.weight_transfer == "folder"

    def connect(self, policy: Policy) -> PoolClient:
        from fdt.engines.vllm.pool import PoolClient

        snapshot = self._find_snapshot(policy)

        def connect_member(member: Member) -> CompletionsClient:
            return self._connect_member(member, snapshot, policy)

        self._state.client = PoolClient(self._find_members(policy), connect_member, get_rank())
        return self._state.client

    def _find_snapshot(self, policy: Policy) -> Snapshot | StreamedWeights:
        """The weights that this engine was frozen with, else the present ones."""
        if "_snapshot" in vars(self):
            return vars(self)["_snapshot"]
        assert not is_distributed(), "ranks hand weights over together: by `freeze`"
        return self._take(policy)

    def _take(self, policy: Policy) -> Snapshot | StreamedWeights:
        """The present weights: files, or what the servers were given."""
        dtype = choose_serving_dtype(policy, self.dtype)
        if self.weight_transfer == "folder":
            return self._state.snapshots.take(policy, dtype)
        if policy.lora is not None:
            raise UserError(
                "adapters are handed over by folder",
                got="weight_transfer: ipc with model.lora",
                expected="weight_transfer: folder",
                key="data.engine.init_args.weight_transfer",
            )
        members = run_on_all(lambda: self.repeat(lambda: self._find_living_members(policy)))
        return self._state.stream.take(policy, members, dtype)

    def _find_living_members(self, policy: Policy) -> list[Member]:
        """The servers, of which one answers."""
        from fdt.engines.vllm.transfer.receivers import check_any_answers

        members = self._find_members(policy)
        check_any_answers(members)
        return members

    def _connect_member(
        self, member: Member, snapshot: Snapshot | StreamedWeights, policy: Policy
    ) -> CompletionsClient:
        from fdt.engines.completions import CompletionsClient
        from fdt.engines.vllm.transfer.weight_stream import StreamedWeights

        weights = member.weights
        server = weights.server
        assert server is not None
        if not isinstance(snapshot, StreamedWeights):
            weights.hand_over(snapshot)
        elif weights.held != snapshot.name:
            others = [one for one in self._state.members.values() if one is not member]
            self._state.stream.renew(policy, snapshot, member, others, choose_serving_dtype(policy, self.dtype))
        weights.verify()
        name = snapshot.name if snapshot.adapter else NAME if server.own else _find_base_name(server)
        return CompletionsClient(server.url, server.key, name, policy.stop_ids, self.timeout, self.concurrency, 0)

    def _find_members(self, policy: Policy) -> list[Member]:
        """The servers, of which one of our own is started where it does not run."""
        from fdt.engines.vllm.pool import Member
        from fdt.engines.vllm.weight_sync import Server, ServerWeightSync

        state = self._state
        if self.url is None:
            servers = [self._ensure_own_server(policy)]
        else:
            urls = [self.url] if isinstance(self.url, str) else self.url
            key = read_key(self.key_variable)
            servers = [Server(url.rstrip("/"), key, self.timeout, False) for url in dict.fromkeys(urls)]
        for server in servers:
            if server.url not in state.members:
                state.members[server.url] = Member(ServerWeightSync(snapshots=state.snapshots, server=server))
        return [state.members[server.url] for server in servers]

    def check(self, policy: Policy) -> None:
        self._state.deaths = 0
        client = self._state.client
        if client is not None:
            for member in client.members:
                if member.url in client.used:
                    member.weights.verify()

    def handle_outage(self, away: ServerUnavailable) -> None:
        state = self._state
        for member in state.members.values():
            member.weights.held = None
            member.away_until = 0.0  # how long all of them are waited for is known above
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
        self._state.members = {}

    @cached_property
    def _state(self) -> State:
        return State(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: a server belongs to one process."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    def _ensure_own_server(self, policy: Policy) -> Server:
        from fdt.engines.vllm.weight_sync import Server

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
        folder = Path(self._state.snapshots.place.name).resolve()
        command = [python, "-m", "vllm.entrypoints.openai.api_server", *self._build_options(policy)]
        variables = build_variables(policy, self.devices)
        child = Child(lambda port: [*command, "--port", str(port)], folder, variables)
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
        if policy.device.type == "cuda":
            settings["gpu_memory_utilization"] = self.gpu_memory_utilization
        if self.weight_transfer == "ipc":
            settings["weight_transfer_config"] = json.dumps({"backend": "fdt"})
        if len(self.devices) > 1:
            settings["tensor_parallel_size"] = len(self.devices)
        return [word for name, value in settings.items() for word in format_option(name, value)] + list(self.arguments)


class State:
    """What one process knows about its servers."""

    def __init__(self, folder: str | None) -> None:
        from fdt.engines.vllm.snapshot import SnapshotWriter
        from fdt.engines.vllm.transfer.weight_stream import WeightStream

        self.snapshots: SnapshotWriter = SnapshotWriter(folder)
        self.stream: WeightStream = WeightStream()
        self.members: dict[str, Member] = {}
        self.client: PoolClient | None = None
        self.child: Child | None = None
        self.ran = False
        self.deaths = 0


def _find_base_name(server: Server) -> str:
    """The name of the model that a running server has without adapters."""
    listed = server.call("/models", None, "name a server that serves model.base")
    return next(model["id"] for model in listed["data"] if not model.get("parent"))
