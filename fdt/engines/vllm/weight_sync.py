"""Weights handed over by folder: the policy's are written, the server reads them, and only when they have changed."""

from __future__ import annotations

import ipaddress
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers.utils import logging as progress

from fdt.distributed import is_distributed
from fdt.engines.completions import ServerUnavailable, call_endpoint
from fdt.engines.vllm.fingerprint import compute_fingerprint
from fdt.engines.vllm.launch import EXTENSION
from fdt.errors import UserError
from fdt.policy.fsdp import is_sharded
from fdt.policy.policy import Policy

ADAPTERS = (
    "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and a --max-lora-rank that is not "
    "below model.lora.rank, where it can read the folder data.engine.init_args.folder"
)
WHOLE = (
    f"start the server with VLLM_SERVER_DEV_MODE=1, PYTHONPATH={EXTENSION} and --worker-extension-cls "
    "fdt_worker.Reload, where it can read the folder data.engine.init_args.folder; or train adapters (model.lora)"
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


@dataclass
class WeightSync(ABC):
    """Keeps what one engine holds equal to the policy.

    Args:
        folder: where the folders are made; both sides read it. None: the place for temporary files.
    """

    folder: str | None
    held: tuple[int, ...] | None = None
    """Fingerprint of what the engine holds; None where nobody knows."""
    name: str = ""
    """Names those weights to the engine."""
    count: int = 0
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Distinguishes this run's weights from those of another, on a server that both use."""

    def __post_init__(self) -> None:
        if self.folder is not None and not Path(self.folder).is_dir():
            raise UserError(
                "no such folder",
                got=self.folder,
                expected="a folder that this run and the server see",
                key="data.engine.init_args.folder",
            )
        self.place = tempfile.TemporaryDirectory(prefix="fdt-weights-", dir=self.folder)
        if self.folder is not None:
            Path(self.place.name).chmod(0o755)  # the server may run as somebody else

    def sync(self, policy: Policy) -> Path:
        """Hands the weights over if they have changed; returns the folder of the present ones.

        Raises:
            ServerUnavailable: where a server does not answer.
            UserError: where it does not take weights.
        """
        if is_sharded(policy):
            raise UserError(
                "sharded weights are not handed to another engine",
                got="FSDP2",
                key="data.engine",
                expected="fdt.engines.HuggingFace, or ddp",
            )
        place = Path(self.place.name).resolve()
        found = compute_fingerprint(policy)
        if found != self.held:
            self.count += 1
            old = self.name
            self.name = f"fdt-{self.run_id}-{self.count}"
            self.held = None
            write(policy, place / self.name)
            self.deliver(place / self.name, old, policy.lora is not None)
            self.held = found
            if old:
                # The present ones stay: a server may read an adapter again after it made room for others.
                shutil.rmtree(place / old, ignore_errors=True)
        return place / self.name

    @abstractmethod
    def deliver(self, target: Path, old: str, adapter: bool) -> None:
        """Has the engine read a folder.

        Args:
            target: the folder; its name is the new weights'.
            old: name of the weights before them, or nothing.
            adapter: whether it holds an adapter, or else a whole model.
        """


def write(policy: Policy, target: Path) -> None:
    """The adapter, or the whole model where there is none, in the files that transformers and PEFT read."""
    model: Any = policy.model  # classes of PEFT and transformers, which write themselves
    causal: Any = policy.causal
    if policy.lora is not None:
        model.save_pretrained(target, save_embedding_layers=False)
        return
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()  # one bar for each update
    causal.save_pretrained(target)
    if shown:
        progress.enable_progress_bar()


@dataclass
class ServerWeightSync(WeightSync):
    """Hands weights to a server."""

    server: Server | None = None

    def deliver(self, target: Path, old: str, adapter: bool) -> None:
        assert self.server is not None
        if adapter:
            self._load_adapter(self.server, target, old)
        else:
            self._load_full_weights(self.server, target)

    def _load_adapter(self, server: Server, target: Path, old: str) -> None:
        # Under a new name each time: a server keeps what it computed for a name, prefixes above all.
        server.call("/load_lora_adapter", {"lora_name": self.name, "lora_path": str(target)}, ADAPTERS)
        if old:
            try:
                call_endpoint(server.url, server.key, server.timeout, "/unload_lora_adapter", {"lora_name": old})
            except UserError:
                return  # a server that was started anew does not know it

    def _load_full_weights(self, server: Server, target: Path) -> None:
        if not server.is_local:
            raise UserError(
                "whole weights are handed over by development calls that ask for no key",
                got=server.url,
                expected="a loopback address",
                remedy=WHOLE,
                key="data.engine.init_args.url",
            )
        if is_distributed() and not server.own:
            raise UserError(
                "several ranks would overwrite each other's weights on one server",
                got=server.url,
                expected="null: each rank starts its own",
                key="data.engine.init_args.url",
            )
        rpc = {"method": "fdt_reload", "args": [str(target)]}
        server.call(f"{server.root}/collective_rpc", rpc, WHOLE)
        # What it computed with the old weights must not serve the new ones.
        server.call(f"{server.root}/reset_prefix_cache", {}, WHOLE)
        server.call(f"{server.root}/update_weight_version", {"new_version": self.name}, WHOLE)

    def verify(self) -> None:
        """Raises `ServerUnavailable` where a server was started anew and serves its own weights under the same name."""
        assert self.server is not None
        found = self.server.call(f"{self.server.root}/weight_info", None, WHOLE)
        if found.get("weight_version") != self.name:
            raise ServerUnavailable("the server was started anew and has forgotten the weights")
