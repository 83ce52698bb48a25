"""Counts what a rank receives from the others while it trains."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

GATHERS = ("all_gather_into_tensor", "_allgather_base_", "all_gather_into_tensor_out")
REDUCTIONS = ("reduce_scatter_tensor", "_reduce_scatter_base_")
SMALL = 2048
"""Bytes below which an exchange is one of counters and not of weights."""


class CountTraffic(Callback):
    """Writes one line a step: bytes received by gathers and by reductions since the step before."""

    def __init__(self, path: str):
        """
        Args:
            path: the JSON-lines file; the rank's number is put behind it.
        """
        self.path = path
        self.mode = _Mode()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mode.ranks = trainer.world_size
        self.mode.__enter__()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        with Path(f"{self.path}.{trainer.global_rank}").open("a") as file:
            file.write(json.dumps(self.mode.received) + "\n")
        self.mode.received = Counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mode.__exit__(None, None, None)


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ranks = 1
        self.received: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        part = (self.ranks - 1) / self.ranks
        if name in GATHERS:
            self._add("gathered", part * _count_bytes(found if isinstance(found, torch.Tensor) else args[0]))
        elif name in REDUCTIONS:
            self._add("reduced", part * _count_bytes(args[0] if name == "reduce_scatter_tensor" else args[1]))
        elif name in ("allreduce_", "all_reduce"):
            self._add("reduced", 2 * part * _count_bytes(args[0]))
        return found

    def _add(self, kind: str, size: float) -> None:
        if size >= SMALL:
            self.received[kind] += size


def _count_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_count_bytes, value)) if isinstance(value, list | tuple) else 0
