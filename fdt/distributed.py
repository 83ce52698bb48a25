"""What ranks exchange: sums, maxima, and lists of any objects. A single process exchanges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from fdt.errors import UserError
from feedback.gateway import GatewayStop

_GROUP: ContextVar[Any] = ContextVar("process group of this thread", default=None)


def create_group() -> Any:
    """A second group of all ranks, for exchanges beside those of training; every rank must call. None for one rank."""
    return dist.new_group(backend="gloo") if is_distributed() else None


@contextmanager
def use_group(group: Any) -> Iterator[None]:
    """Exchanges of this thread go through ``group``: those of two threads in one group could meet in any order."""
    token = _GROUP.set(group)
    try:
        yield
    finally:
        _GROUP.reset(token)


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def get_rank() -> int:
    """This rank's number."""
    return dist.get_rank() if is_distributed() else 0


def reduce_max(values: Sequence[float], device: Any) -> list[float]:
    """The largest of each number over all ranks; every rank gives equally many."""
    if not values or not is_distributed():
        return list(values)
    group = _GROUP.get()
    found = torch.tensor(values, device=device if group is None else "cpu", dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
    return found.tolist()


def reduce_max_count(count: int, device: Any) -> int:
    """The largest of a count over all ranks."""
    return int(reduce_max([count], device)[0])


def reduce_sum(values: dict[str, Tensor], device: Any) -> dict[str, float]:
    """Sums named numbers over ranks; every rank gives the same names."""
    names = sorted(values)
    if not names:
        return {}
    # One transfer for all that lie elsewhere, not one each.
    there = [name for name in names if values[name].device.type == torch.device(device).type]
    here = [name for name in names if name not in set(there)]
    parts = [torch.stack([values[name].detach().double() for name in own]).to(device) for own in (there, here) if own]
    found = dict(zip([*there, *here], torch.cat(parts).unbind(), strict=True))
    stacked = torch.stack([found[name] for name in names])  # by name on every rank, wherever its numbers lay
    if is_distributed():
        dist.all_reduce(stacked)
    return dict(zip(names, stacked.tolist(), strict=True))


T = TypeVar("T")


def broadcast_object(mine: T) -> T:
    """What the first rank holds, on every rank; anything that can be sent."""
    if not is_distributed():
        return mine
    found = [mine]
    dist.broadcast_object_list(found, src=0, group=_GROUP.get())
    return found[0]


def run_on_first(call: Callable[[], T]) -> T:
    """What `call` returns on the first rank, which alone runs it. Every rank must call.

    Raises:
        UserError: on all ranks, where the first one raised it.
    """
    found: T | UserError | None = None
    if get_rank() == 0:
        try:
            found = call()
        except UserError as fault:
            found = fault
    found = broadcast_object(found)
    if isinstance(found, UserError):
        raise found
    return cast(T, found)


def gather_objects(mine: Any) -> list[Any]:
    """What each rank holds, in the order of ranks; anything that can be sent."""
    if not is_distributed():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine, group=_GROUP.get())
    return found


def run_on_all(judge: Callable[[], T]) -> T:
    """What `judge` returns. Every rank must call: a rank that raised alone would leave the others waiting for it.

    Raises:
        GatewayStop: on all ranks, where it was raised on any.
    """
    found: list[T] = []
    stop: GatewayStop | None = None
    try:
        found.append(judge())
    except GatewayStop as error:
        stop = error
    stops = [other for other in gather_objects(stop) if other is not None]
    if stops:
        raise stop or stops[0]
    return found[0]
