"""When a judge stops answering one rank, all ranks stop, at the same place, so that a checkpoint can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fdt.ranks import everyone
from feedback.gateway import GatewayStop

T = TypeVar("T")


def together(judge: Callable[[], T]) -> T:
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
    stops = [other for other in everyone(stop) if other is not None]
    if stops:
        raise stop or stops[0]
    return found[0]
