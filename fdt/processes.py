"""Ranks as processes: none outlives the one that started it, and the first one says how the run ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
WAIT = 10.0
"""Seconds that a rank waits for the one that started it to end first."""


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
