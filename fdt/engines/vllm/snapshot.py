"""The policy's weights at one moment, as files that transformers, PEFT and vLLM read."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as progress

from fdt.distributed import broadcast_object, gather_objects, get_rank, is_distributed
from fdt.engines.fingerprint import WeightVersions
from fdt.errors import UserError
from fdt.policy.fsdp import gather_state, is_sharded
from fdt.policy.policy import Policy
from fdt.processes import read_umask


class Snapshot:
    """A folder of weights, removed when nobody refers to it any more."""

    def __init__(self, path: Path, adapter: bool, owned: bool) -> None:
        """
        Args:
            path: the folder; its name is the weights'.
            adapter: whether it holds an adapter, or else a whole model.
            owned: whether this process wrote it, and removes it.
        """
        self.path = path
        self.adapter = adapter
        if owned:
            weakref.finalize(self, shutil.rmtree, path, True)

    @property
    def name(self) -> str:
        """Names these weights to an engine."""
        return self.path.name


@dataclass
class SnapshotWriter:
    """Writes the policy's weights where they have changed. With several ranks one folder serves all of them, rank 0
    writes it, and every rank must call.

    Args:
        folder: where the folders are made; whoever reads them sees it. None: the place for temporary files.
    """

    folder: str | None
    versions: WeightVersions = field(default_factory=WeightVersions)
    """Tells when they have changed."""
    _last: Snapshot | None = None

    def __post_init__(self) -> None:
        if self.folder is not None and not Path(self.folder).is_dir():
            raise UserError(
                "no such folder",
                got=self.folder,
                expected="a folder that this run and the server see",
                key="data.engine.init_args.folder",
            )
        self.place = tempfile.TemporaryDirectory(prefix="fdt-weights-", dir=self.folder, ignore_cleanup_errors=True)
        if self.folder is not None:
            Path(self.place.name).chmod(0o777 & ~read_umask())  # the server may run as somebody else

    def take(self, policy: Policy, dtype: torch.dtype | None = None) -> Snapshot:
        """The present weights.

        Args:
            dtype: of whole weights in the files, where the engine holds them in another than the trainer; adapters stay
                as they are.
        """
        name = self.versions.update(policy)
        if self._last is None or self._last.name != name:
            path = Path(broadcast_object(str(Path(self.place.name).resolve() / name)))
            snapshot = Snapshot(path, policy.lora is not None, owned=get_rank() == 0)
            write_weights(policy, path, dtype)
            gather_objects(None)  # the others read it when it is complete
            self._last = snapshot
        return self._last


def write_weights(policy: Policy, target: Path, dtype: torch.dtype | None) -> None:
    """The adapter, or the whole model where there is none. Rank 0 writes; every rank must call.

    Sharded weights are gathered one tensor at a time; rank 0 holds those that it writes in its main memory.
    """
    model: Any = policy.model  # classes of PEFT and transformers, which write themselves
    causal: Any = policy.causal
    mine = get_rank() == 0 or not is_distributed()
    if policy.lora is not None:
        state = gather_state(model, None, only_trainable=True) if is_sharded(policy) else None
        if mine:
            model.save_pretrained(
                target, save_embedding_layers=False, **({} if state is None else {"state_dict": state})
            )
        return
    cast = dtype is not None and dtype != causal.dtype
    state = gather_state(causal, dtype) if is_sharded(policy) or cast else None
    if not mine:
        return
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()  # one bar for each update
    causal.save_pretrained(target, **({} if state is None else {"state_dict": state}))
    if shown:
        progress.enable_progress_bar()
