"""A fresh process for each piece of code that a policy wrote, within limits.

What is guaranteed: the process has no variables of ours in its environment, its address space, CPU time, written bytes
and wall time are bounded, and it is killed with all it started when its time is over. Where the kernel allows user
namespaces (nearly everywhere; ``enclosed()`` says), it also has no network of any kind, sees no other process, and
every file system is read-only, whatever code it runs. Elsewhere only Python's own audit events refuse sockets, processes,
signals, native libraries and writing: that keeps honest code in its place, and a determined attacker may get around it,
so ``Bounds.trusting`` must allow it. In either case files that this user can read can be read.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fdt.environments import jail
from fdt.environments.base import EnvironmentFault

REFUSED = 77


@dataclass(frozen=True)
class Limits:
    """Limits of one run."""

    seconds: float = 5.0
    """Most wall time, and CPU time rounded up [s]."""
    memory: int = 512
    """Most address space [MiB]."""
    output: int = 4000
    """Most characters of output that come back; more are cut and said to be."""
    trusting: bool = False
    """Run also where the kernel gives no namespaces and audit events alone stand in the way."""


@dataclass(frozen=True)
class RunResult:
    """What a run left."""

    text: str
    """Standard output and errors together."""
    fault: str | None = None
    """Why it did not end by itself with status 0; None where it did."""


def run_python(code: str, bounds: Limits) -> RunResult:
    """Runs a script.

    Raises:
        EnvironmentFault: where no process could be had, or namespaces are refused and not waived.
    """
    with tempfile.TemporaryDirectory(prefix="fdt-") as folder:
        script, out = Path(folder) / "code.py", Path(folder) / "out"
        script.write_text(code, encoding="utf-8", errors="replace")
        if not can_isolate() and not bounds.trusting:
            raise EnvironmentFault(
                "the kernel gives no user namespaces, so code could reach the network; "
                "set bounds.trusting to run it all the same"
            )
        status = _run(script, out, bounds)
        text = out.read_bytes().decode("utf-8", errors="replace").replace(str(script), "code.py")
    text = _strip_frames(text.strip())
    if len(text) > bounds.output:
        text = f"{text[: bounds.output]}\n[cut after {bounds.output} characters]"
    return RunResult(text, _describe_fault(status, bounds))


def _run(script: Path, out: Path, bounds: Limits) -> int | None:
    stage = "enclosed" if can_isolate() else "run"
    with out.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", jail.__file__, stage, str(script)],
            env={"HOME": "/", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: _set_limits(bounds),
        )
        try:
            return child.wait(bounds.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                child.poll()
            child.wait()


def _set_limits(bounds: Limits) -> None:
    cpu, memory = int(bounds.seconds) + 1, bounds.memory << 20
    written = 4 * bounds.output + 4000  # four bytes a character, and the runner's own frames
    for limit, most in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (most, most))


@lru_cache(maxsize=1)
def can_isolate() -> bool:
    """Whether the kernel gives this user namespaces without network; asked once, by trying."""
    with tempfile.TemporaryDirectory(prefix="fdt-") as folder:
        script, out = Path(folder) / "code.py", Path(folder) / "out"
        script.write_text("", encoding="utf-8")
        with out.open("wb") as sink:
            command = [sys.executable, "-I", "-B", jail.__file__, "enclosed", str(script)]
            asked = subprocess.run(
                command, env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, timeout=60, check=False
            )
        return asked.returncode == 0


def _describe_fault(status: int | None, bounds: Limits) -> str | None:
    if status is None:
        return f"stopped after {bounds.seconds:g} s"
    return None if status == 0 else f"ended with status {status}"


def _strip_frames(text: str) -> str:
    """Without the frames of the runner in a traceback, which say nothing about the code."""
    kept, skipping = [], False
    for line in text.split("\n"):
        if line.startswith('  File "'):
            skipping = "<frozen runpy>" in line or jail.__file__ in line
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return "\n".join(kept)
