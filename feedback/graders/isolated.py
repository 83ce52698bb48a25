"""Judging in a process of its own: libraries that compute with what a stranger wrote can neither hang nor harm a run.

The process starts with an empty environment and bounds on its memory and on files it writes, lives as long as it
answers in time, and exchanges JSON lines over pipes that the judged text never sees. One that does not answer is
killed, and what it was asked stays ungraded. What it runs is a program: a module of `feedback.graders.programs` with a
function `grade`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

START_SECONDS = 120.0
"""How long a process may take to import what it judges with [s]."""
MEMORY = 4 << 30
"""Most memory of a process [bytes of address space]."""
COMMAND = "import sys; sys.path[:] = sys.argv[2:]; from feedback.graders.isolated import serve; serve(sys.argv[1])"


class GraderProcess:
    """One judging process for one grader; it starts when it is first asked."""

    def __init__(self, grader: str) -> None:
        self.grader = grader
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """What the grader returns, or `{"ungraded": reason}` where it failed, died, or took longer than `seconds`.

        Raises:
            RuntimeError: where the process cannot start.
        """
        try:
            line = json.dumps([seconds, request]).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as fault:
            return {"ungraded": f"it cannot be written as JSON ({fault})"}
        if self.process is None:
            self._start()
        try:
            self._write(line)
            answer = self._read(seconds)
        except (OSError, ValueError):
            answer = {"ungraded": "the judging process died"}
            self.close()
        if answer is None:
            answer = {"ungraded": f"no verdict within {seconds:g} s"}
            self.close()
        return answer

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        paths = [os.path.abspath(path) for path in sys.path]  # "" is the working directory
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", COMMAND, self.grader, *paths],
            env={},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = self._read(START_SECONDS)
            fault = f"not ready after {START_SECONDS:g} s" if ready is None else ready["fault"]
        except (OSError, ValueError):
            fault = "it ended at once"
        if fault is not None:
            self.close()
            raise RuntimeError(f"{self.grader}: its process does not start: {fault}")

    def _write(self, line: bytes) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """One line of JSON; None where it is not whole within `seconds`. Raises ValueError at the end of the stream."""
        assert self.process is not None and self.process.stdout is not None
        source = self.process.stdout.fileno()
        line = b""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(source, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not ready.select(until - time.monotonic()) or time.monotonic() > until:
                    return None
                part = os.read(source, 1 << 16)
                if not part:
                    raise ValueError("the stream ended")
                line += part
        return json.loads(line)


@lru_cache(maxsize=8)
def _make_process(grader: str, process: int) -> GraderProcess:
    made = GraderProcess(grader)
    # A forked child must not end the process of its parent.
    atexit.register(lambda: made.close() if os.getpid() == process else None)
    return made


def get_process(grader: str) -> GraderProcess:
    """The judging process for a grader: one for each process that asks."""
    return _make_process(grader, os.getpid())


def require_library(library: str, extra: str) -> None:
    """Raises ValueError with the remedy where an optional library is not installed."""
    if find_spec(library) is None:
        raise ValueError(
            f"{library}: not installed, expected by this grader. "
            f"Run: pip install 'feedback-distillation-trainer[{extra}]'."
        )


def serve(grader: str) -> None:
    """What the judging process runs: a line in, a verdict out, until its input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no verdict
    try:
        _limit_resources()
        grade = importlib.import_module(f"feedback.graders.programs.{grader}").grade
    except Exception as fault:
        print(json.dumps({"fault": f"{type(fault).__name__}: {fault}"}), file=out, flush=True)
        return
    print(json.dumps({"fault": None}), file=out, flush=True)
    for line in sys.stdin:
        seconds, request = json.loads(line)
        signal.alarm(int(seconds) + 2)  # ends this process even where the asking one is gone
        try:
            answer = grade(**request)
        except Exception as fault:
            answer = {"ungraded": f"the grader failed ({type(fault).__name__})"}
        signal.alarm(0)
        print(json.dumps(answer), file=out, flush=True)


def _limit_resources() -> None:
    """Bounds memory and written files; called before anything is imported."""
    import resource

    for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
