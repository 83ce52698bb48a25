"""How fast the ranks of one machine exchange weights or gradients: a few layers do it between processes as in a run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing, nn

WIDTH = 1024
LAYERS = 4
"""Of four linear maps each: 16 MiB a layer in float32."""
LAYER_BYTES = 4 * 4 * WIDTH * WIDTH
ROUNDS = 9


def measure_link(ranks: int, sharded: bool = True) -> float:
    """Bytes a second that each of so many processes of this machine receives by gloo, with all that is done to them on
    the way; 0 where there is one.

    Args:
        ranks: how many.
        sharded: FSDP2 gathers layers, for a forward and a backward pass, and scatters their gradients; else gradients
            are summed as under DDP.
    """
    if ranks == 1:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rate"
        store = Path(folder) / "store"
        multiprocessing.spawn(_exchange, (ranks, sharded, str(store), str(result)), nprocs=ranks)
        return float(result.read_text())


def _exchange(rank: int, ranks: int, sharded: bool, store: str, result: str) -> None:
    """One process; the first writes bytes a second."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    part = (ranks - 1) / ranks
    rate = part * (_measure_shards(ranks) if sharded else _measure_sum())
    if rank == 0:
        Path(result).write_text(str(rate))
    dist.destroy_process_group()


def _measure_shards(ranks: int) -> float:
    """Bytes a second of the whole layers that are gathered twice and whose gradients are scattered once: what a pass
    takes with shards beyond what it takes without."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    alone, apart = _build(), _build()
    mesh = dist.init_device_mesh("cpu", (ranks,))
    for layer in apart:
        fully_shard(layer, mesh=mesh)
    fully_shard(apart, mesh=mesh)
    with_shards, without = (_time(partial(_learn, model)) for model in (apart, alone))
    return 3 * LAYERS * LAYER_BYTES / max(1e-9, with_shards - without)


def _learn(model: nn.Module) -> None:
    """A forward and a backward pass of one row."""
    model(torch.randn(1, WIDTH)).sum().backward()


def _measure_sum() -> float:
    """Bytes a second of a gradient that is summed: each is sent around twice."""
    import torch.distributed as dist

    gradient = torch.ones(LAYER_BYTES // 4)
    return 2 * LAYER_BYTES / _time(lambda: dist.all_reduce(gradient))


def _build() -> Any:
    return nn.Sequential(
        *(nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))) for _ in range(LAYERS))
    )


def _time(call: Callable[[], Any]) -> float:
    """Seconds that pass in a call, the median of some: what holds one rank up holds all of them up."""
    import torch.distributed as dist

    found = []
    for _ in range(ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)
