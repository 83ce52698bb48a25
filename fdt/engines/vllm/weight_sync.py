"""Weights handed over by folder: an engine is told which folder to read, and only when it holds others."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fdt.engines.completions import ServerUnavailable, call_endpoint
from fdt.engines.vllm.launch import EXTENSION
from fdt.engines.vllm.snapshot import Snapshot, SnapshotWriter
from fdt.errors import UserError
from fdt.policy.policy import Policy

ADAPTERS = (
    "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and a --max-lora-rank that is not "
    "below model.lora.rank, where it can read the folder data.engine.init_args.folder"
)
WHOLE = (
    f"start the server with VLLM_SERVER_DEV_MODE=1, PYTHONPATH={EXTENSION} and --worker-extension-cls "
    "fdt_worker.Reload, where it can read the folder data.engine.init_args.folder; or train adapters (model.lora)"
)
STREAMED = (
    f"start the server with VLLM_SERVER_DEV_MODE=1, PYTHONPATH={EXTENSION}, --worker-extension-cls fdt_worker.Reload "
    """and --weight-transfer-config '{"backend": "fdt"}', or set weight_transfer: folder"""
)


@dataclass(frozen=True)
class Server:
    """Where to reach a server."""

    url: str
    """Up to and including /v1."""
    key: str | None
    timeout: float
    """Seconds for one call."""
    own: bool
    """Whether this rank started it, and nobody else uses it."""

    def call(self, path: str, body: dict[str, Any] | None, remedy: str) -> Any:
        """One management call, whose refusal is explained by the remedy."""
        try:
            return call_endpoint(self.url, self.key, self.timeout, path, body)
        except UserError as fault:
            raise UserError(fault.what, fault.got, fault.expected, remedy, fault.key, fault.path) from None

    @property
    def root(self) -> str:
        """The address above /v1, where the development endpoints are."""
        return self.url.removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        """Whether nobody outside this machine can reach it at this address."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def check_local(self) -> None:
        """
        Raises:
            UserError: where whole weights would be handed over on a network.
        """
        if not self.is_local:
            raise UserError(
                "whole weights are handed over by development calls that ask for no key",
                got=self.url,
                expected="a loopback address",
                remedy=WHOLE,
                key="data.engine.init_args.url",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps the other ranks of this machine from handing weights to this server at the same time."""
        if self.own:
            yield
            return
        name = hashlib.sha256(f"{socket.gethostname()} {self.url}".encode()).hexdigest()[:16]
        with (Path(tempfile.gettempdir()) / f"fdt-server-{name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@dataclass
class WeightSync(ABC):
    """Keeps what one engine holds equal to the policy, or to a snapshot of it.

    Args:
        folder: where the folders are made; both sides read it. None: the place for temporary files.
        snapshots: what writes them, where several engines share it.
    """

    folder: str | None = None
    snapshots: SnapshotWriter = None  # type: ignore[assignment]  # made below where none is given
    held: str | None = None
    """Name of what the engine holds; None where nobody knows."""
    name: str = ""
    """Name of what it was last given."""

    def __post_init__(self) -> None:
        if self.snapshots is None:
            self.snapshots = SnapshotWriter(self.folder)

    def sync(self, policy: Policy) -> Path:
        """Hands the present weights over if the engine holds others; returns their folder.

        Raises:
            ServerUnavailable: where a server does not answer.
            UserError: where it does not take weights.
        """
        snapshot = self.snapshots.take(policy)
        self.hand_over(snapshot)
        return snapshot.path

    def hand_over(self, snapshot: Snapshot) -> None:
        """Makes sure that the engine holds these weights; raises as `sync`."""
        if self.held == snapshot.name:
            return
        old = self.name if self.name != snapshot.name else ""
        self.held = None
        self.name = snapshot.name
        self.deliver(snapshot.path, old, snapshot.adapter)
        self.held = snapshot.name

    @abstractmethod
    def deliver(self, target: Path, old: str, adapter: bool) -> None:
        """Has the engine read a folder.

        Args:
            target: the folder; its name is the new weights'.
            old: name of the weights before them, or nothing.
            adapter: whether it holds an adapter, or else a whole model.
        """


@dataclass
class ServerWeightSync(WeightSync):
    """Hands weights to a server, which other ranks may use too."""

    server: Server | None = None
    whole: bool = field(default=False, init=False)
    """Whether whole weights were handed over."""

    def deliver(self, target: Path, old: str, adapter: bool) -> None:
        assert self.server is not None
        self.whole = not adapter
        with self.server.lock():
            if adapter:
                self._load_adapter(self.server, target, old)
            else:
                self._load_full_weights(self.server, target)

    def _load_adapter(self, server: Server, target: Path, old: str) -> None:
        # Under a new name each time: a server keeps what it computed for a name, prefixes above all.
        try:
            server.call("/load_lora_adapter", {"lora_name": target.name, "lora_path": str(target)}, ADAPTERS)
        except UserError as fault:
            if "already" not in str(fault.got):  # else another rank was first
                raise
        if old:
            try:
                call_endpoint(server.url, server.key, server.timeout, "/unload_lora_adapter", {"lora_name": old})
            except UserError:
                return  # a server that was started anew does not know it

    def note_held(self, name: str) -> None:
        """The server was given whole weights under this name, otherwise than by folder."""
        self.held = self.name = name
        self.whole = True

    def _load_full_weights(self, server: Server, target: Path) -> None:
        server.check_local()
        if not server.own and self.read_version() == target.name:
            return  # another rank was first
        rpc = {"method": "fdt_reload", "args": [str(target)]}
        server.call(f"{server.root}/collective_rpc", rpc, WHOLE)
        # What it computed with the old weights must not serve the new ones.
        server.call(f"{server.root}/reset_prefix_cache", {}, WHOLE)
        server.call(f"{server.root}/update_weight_version", {"new_version": target.name}, WHOLE)

    def read_version(self) -> str | None:
        """The name of the weights that the server holds, as whoever handed them over called them."""
        assert self.server is not None
        found = self.server.call(f"{self.server.root}/weight_info", None, WHOLE)
        return found.get("weight_version") if isinstance(found, dict) else None

    def verify(self) -> None:
        """Raises `ServerUnavailable` where a server was started anew and serves its own weights under the same name. A
        server that forgot an adapter says so itself."""
        assert self.server is not None
        if self.whole and self.read_version() != self.name:
            self.held = None
            raise ServerUnavailable("the server was started anew and has forgotten the weights")
