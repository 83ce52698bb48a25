"""Ranks as processes: none outlives the one that started it, the first one says how the run ended, and any whether
another is gone; the umask."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
WAIT = 10.0
"""Seconds that a rank waits for the one that started it to end first."""


@dataclass(frozen=True)
class RankProcess:
    """The process of one rank."""

    number: int
    """As its host's kernel counts."""
    host: str
    started: str
    """When, in the kernel's ticks: another process that gets the same number is not taken for it."""

    def has_ended(self) -> bool:
        """Whether it is gone, as far as this host can say: false for other hosts, and where there is no /proc."""
        if self.host != socket.gethostname() or not self.started:
            return False
        return _read_start(self.number) != self.started


def _read_start(number: int) -> str:
    """When a process started; empty where it has ended, though nobody may have asked for its exit code yet."""
    try:
        words = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]


def describe_process() -> RankProcess:
    """This process."""
    return RankProcess(os.getpid(), socket.gethostname(), _read_start(os.getpid()))


def find_ended(ranks: Sequence[RankProcess], seconds: float) -> list[int]:
    """Ranks whose processes have ended, looked for until there is one, so many seconds at most: one that is killed
    closes its connections before it is seen to be gone."""
    end = time.monotonic() + seconds
    while True:
        found = [rank for rank, process in enumerate(ranks) if process.has_ended()]
        if found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def is_launched() -> bool:
    """Whether this process is a rank that another rank started; those of torchrun are not."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ


def die_with_parent() -> None:
    """Asks Linux to end this process with the one that started it, so that a rank never outlives its run.

    Elsewhere nothing is asked; there the observer of Lightning's launcher alone ends what is left.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def wait_for_parent() -> None:
    """Waits until the process that started this one has ended, at most `WAIT` seconds: Lightning's observer would kill
    it, with its own exit code lost, if this one ended first and with an error."""
    parent = os.getppid()
    end = time.monotonic() + WAIT
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.05)


def read_umask() -> int:
    """The permissions that this process takes away from what it makes; there is no way to ask without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
