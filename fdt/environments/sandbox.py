"""A fresh process for each piece of code that a policy wrote, within limits.

What is guaranteed: the process has no variables of ours in its environment, its address space, CPU time, written bytes
and wall time are bounded, and it is killed with all it started when its time is over. Where the kernel allows user
namespaces (nearly everywhere; ``can_isolate()`` finds out), it also has no network of any kind, sees no other process,
and every file system is read-only, whatever code it runs. Elsewhere only Python's own audit events refuse sockets,
processes, signals, native libraries and writing: that keeps honest code in its place, and a determined attacker may get
around it, so ``Limits.allow_unisolated`` must allow it. In either case files that this user can read can be read.
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


@dataclass(frozen=True)
class Limits:
    """Limits of one run."""

    seconds: float = 5.0
    """Most wall time, and CPU time rounded up [s]."""
    memory: int = 512
    """Most address space [MiB]."""
    output: int = 4000
    """Most characters of output that come back; more are cut, with a note."""
    allow_unisolated: bool = False
    """Run also where the kernel gives no namespaces and audit events alone stand in the way."""


@dataclass(frozen=True)
class RunResult:
    """What a run left."""

    text: str
    """Standard output and errors together."""
    fault: str | None = None
    """Why it did not end by itself with status 0; None where it did."""


def run_python(code: str, limits: Limits) -> RunResult:
    """Runs a script.

    Raises:
        EnvironmentFault: where no process could be had, or namespaces are refused and not waived.
    """
    with tempfile.TemporaryDirectory(prefix="fdt-") as folder:
        script = Path(folder) / "code.py"
        out = Path(folder) / "out"
        script.write_text(code, encoding="utf-8", errors="replace")
        if not can_isolate() and not limits.allow_unisolated:
            raise EnvironmentFault(
                "the kernel gives no user namespaces, so code could reach the network; "
                "set limits.allow_unisolated to run it all the same"
            )
        status = _run(script, out, limits)
        text = out.read_bytes().decode("utf-8", errors="replace").replace(str(script), "code.py")
    text = _strip_frames(text.strip())
    if len(text) > limits.output:
        text = f"{text[: limits.output]}\n[cut after {limits.output} characters]"
    return RunResult(text, _describe_fault(status, limits))


def _run(script: Path, out: Path, limits: Limits) -> int | None:
    stage = "isolated" if can_isolate() else "run"
    with out.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", jail.__file__, stage, str(script)],
            env={"HOME": "/", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: _set_limits(limits),
        )
        try:
            return child.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                child.poll()
            child.wait()


def _set_limits(limits: Limits) -> None:
    cpu = int(limits.seconds) + 1
    memory = limits.memory << 20
    written = 4 * limits.output + 4000  # four bytes a character, and the runner's own frames
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
        script = Path(folder) / "code.py"
        out = Path(folder) / "out"
        script.write_text("", encoding="utf-8")
        with out.open("wb") as sink:
            command = [sys.executable, "-I", "-B", jail.__file__, "isolated", str(script)]
            tried = subprocess.run(
                command, env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, timeout=60, check=False
            )
        return tried.returncode == 0


def _describe_fault(status: int | None, limits: Limits) -> str | None:
    if status is None:
        return f"stopped after {limits.seconds:g} s"
    return None if status == 0 else f"ended with status {status}"


def _strip_frames(text: str) -> str:
    """Without the frames of the runner in a traceback, which do not concern the code."""
    kept: list[str] = []
    skipping = False
    for line in text.split("\n"):
        if line.startswith('  File "'):
            skipping = "<frozen runpy>" in line or jail.__file__ in line
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return "\n".join(kept)
