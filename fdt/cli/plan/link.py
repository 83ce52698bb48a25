"""How fast the ranks of one machine exchange weights: FSDP2 gathers a layer between processes as in a run."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch import multiprocessing, nn

WIDTH = 2048
"""Of the layer that is gathered: 16 MiB in float32."""
ROUNDS = 6


def measure_link(ranks: int) -> float:
    """Bytes a second that each of so many processes of this machine receives by gloo, copies into place included; 0
    where there is one."""
    if ranks == 1:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "seconds"
        store = Path(folder) / "store"
        multiprocessing.spawn(_gather, (ranks, str(store), str(result)), nprocs=ranks)
        seconds = float(result.read_text())
    return 4 * WIDTH * WIDTH * (ranks - 1) / ranks / seconds


def _gather(rank: int, ranks: int, store: str, result: str) -> None:
    """One process; the first writes the shortest of some times."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    mesh = dist.init_device_mesh("cpu", (ranks,))
    layer = fully_shard(nn.Linear(WIDTH, WIDTH, bias=False), mesh=mesh)
    found = []
    for _ in range(ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        layer.unshard()
        found.append(time.perf_counter() - began)
        layer.reshard()
    if rank == 0:
        Path(result).write_text(str(min(found)))
    dist.destroy_process_group()
