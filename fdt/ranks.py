"""What ranks tell each other: sums, maxima, and lists of anything. One process alone talks to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def together() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This rank's number."""
    return dist.get_rank() if together() else 0


def highest(values: Sequence[float], device: Any) -> list[float]:
    """The largest of each number over all ranks; every rank gives equally many."""
    if not values or not together():
        return list(values)
    found = torch.tensor(values, device=device, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def most(count: int, device: Any) -> int:
    """The largest of a count over all ranks."""
    return int(highest([count], device)[0])


def total(values: dict[str, Tensor], device: Any) -> dict[str, float]:
    """Sums named numbers over ranks; every rank gives the same names."""
    names = sorted(values)
    if not names:
        return {}
    stacked = torch.stack([values[name].detach().double().to(device) for name in names])
    if together():
        dist.all_reduce(stacked)
    return dict(zip(names, stacked.tolist(), strict=True))


def everyone(mine: Any) -> list[Any]:
    """What each rank holds, in the order of ranks; anything that can be sent."""
    if not together():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found
