"""How parts of a step are timed: alone, or beside as many other processes as a run has ranks on the machine."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

ROUNDS = 2
ROUNDS_BESIDE = 5
STARTS = 120
"""Seconds in which the other processes must have started."""
BESIDE = ContextVar("beside", default=False)
"""Whether other ranks measure meanwhile."""


def read_clock() -> float:
    """Seconds. A single thread's are those that it computed, to which others do not add; ranks wait for one another, so
    of several it is those that pass."""
    alone = torch.get_num_threads() == 1 and not BESIDE.get()
    return time.thread_time() if alone else time.perf_counter()


def time_call(call: Callable[[], Any]) -> float:
    """Seconds of a call: the shortest of a few, since whatever else the machine does only adds; beside other ranks the
    median, since what holds one of them up holds all of them up."""
    found = []
    for _ in range((ROUNDS_BESIDE if BESIDE.get() else ROUNDS) + 1):
        began = read_clock()
        call()
        found.append(read_clock() - began)
    return statistics.median(found[1:]) if BESIDE.get() else min(found[1:])


@contextmanager
def run_beside(others: int, work: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """So many other processes do this work meanwhile, over and over.

    Args:
        others: how many.
        work: a function of a module, which a new process can import.
        arguments: its arguments.
    """
    if not others:
        yield
        return
    start = multiprocessing.get_context("spawn")
    began = start.Barrier(others + 1)
    running = [start.Process(target=_repeat, args=(began, work, arguments)) for _ in range(others)]
    for process in running:
        process.start()
    mark = BESIDE.set(True)
    try:
        began.wait(STARTS)
        yield
    finally:
        BESIDE.reset(mark)
        for process in running:
            process.kill()
            process.join()


def _repeat(began: Barrier, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Another rank, until it is stopped."""
    torch.set_num_threads(1)
    began.wait(STARTS)
    while True:
        work(*arguments)
