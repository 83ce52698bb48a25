"""A fresh process for each piece of code that a policy wrote, within limits that the operating system holds.

What is guaranteed: nothing of ours is in its environment; address space, CPU time, written bytes and wall time are
bounded; it stays a single process, which the kernel ends with process 1 of its namespace when its time is over,
whatever it did to be left alone; it makes no socket, signals nobody, opens no device, FIFO or file to write, and reads
only Python's own files and the system's libraries, not your data, your config or another session's code. That takes
user namespaces, Landlock and seccomp (`check_isolation` finds out, by trying). Where one of them is missing nothing
runs, unless ``Limits.allow_unisolated`` allows it: then what the system does offer is used, and Python's own audit
events refuse the rest. Those keep honest code in its place; a determined attacker gets around them.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fdt.environments import jail
from fdt.environments.base import EnvironmentFault
from fdt.environments.syscalls import compile_filter

START_SECONDS = 60.0
"""How long a process may take until the code begins, which does not count as the code's time [s]."""


@dataclass(frozen=True)
class Limits:
    """Limits of one run."""

    seconds: float = 5.0
    """Most wall time, and CPU time rounded up [s]; counted from where the code begins."""
    memory: int = 512
    """Most address space [MiB], of the one process that there is."""
    output: int = 4000
    """Most characters of output that come back; more are cut, with a note."""
    allow_unisolated: bool = False
    """Run also where the system lacks what isolation takes, and audit events stand in the way of the rest."""


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
        EnvironmentFault: where no process could be had, or isolation is refused and not waived.
    """
    refused = check_isolation()
    if refused and not limits.allow_unisolated:
        raise EnvironmentFault(
            f"code that a policy wrote cannot be isolated here ({refused}), so it could reach files, processes and the "
            "network; set limits.allow_unisolated to run it all the same"
        )
    return _run_code(code, limits, isolated=not refused)


def _run_code(code: str, limits: Limits, isolated: bool) -> RunResult:
    with tempfile.TemporaryDirectory(prefix="fdt-") as folder:
        script = Path(folder) / "code.py"
        out = Path(folder) / "out"
        script.write_text(code, encoding="utf-8", errors="replace")
        status = _run(script, out, limits, isolated)
        text = out.read_bytes().decode("utf-8", errors="replace").replace(str(script), "code.py")
    text = _strip_frames(text.strip())
    if len(text) > limits.output:
        text = f"{text[: limits.output]}\n[cut after {limits.output} characters]"
    return RunResult(text, _describe_fault(status, limits))


def _run(script: Path, out: Path, limits: Limits, isolated: bool) -> int | None:
    """The status of the code; None where its time was over."""
    source, sink = os.pipe()
    settings = write_settings(script, limits, isolated, sink)
    with out.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", jail.__file__, "run", json.dumps(settings)],
            env={"HOME": "/", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            pass_fds=(sink,),
        )
        os.close(sink)
        try:
            with open(source, "rb", buffering=0) as pipe:
                _await_start(pipe)
                return _await_end(pipe, limits.seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def write_settings(script: Path, limits: Limits, isolated: bool, report: int) -> dict[str, Any]:
    """What `jail.py` is told; the filter of system calls is written beside the script."""
    program = script.with_name("filter.bpf")
    try:
        program.write_bytes(compile_filter())
    except OSError:
        if isolated:
            raise
        program.write_bytes(b"")
    return {
        "script": str(script),
        "filter": str(program) if program.stat().st_size else "",
        "isolated": isolated,
        "readable": [str(script), *list_readable()],
        "report": report,
        "cpu": int(limits.seconds) + 1,
        "memory": limits.memory << 20,
        "written": 4 * limits.output + 4000,  # four bytes a character, and the runner's own frames
    }


def list_readable() -> list[str]:
    """What code may read: Python with its packages, and the system's libraries."""
    python = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    packages = {path for path in site.getsitepackages() if os.path.isdir(path)}
    return sorted(python | packages) + [
        *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime"),
        *("/sys/devices/system/cpu",),  # how many there are, which numeric libraries ask
    ]


def _read_line(pipe: io.RawIOBase, seconds: float) -> str | None:
    """A line of the runner's report; "" where it ended, None where nothing came in time."""
    until = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        part = pipe.read(1)
        if not part:
            return ""
        line += part
    return line.decode(errors="replace").strip()


def _await_start(pipe: io.RawIOBase) -> None:
    line = _read_line(pipe, START_SECONDS)
    if line != "started":
        reason = f"nothing within {START_SECONDS:g} s" if line is None else line.removeprefix("refused ")
        raise EnvironmentFault(f"the process for a policy's code did not start: {reason or 'it ended at once'}")


def _await_end(pipe: io.RawIOBase, seconds: float) -> int | None:
    line = _read_line(pipe, seconds)
    if line is None:
        return None
    if not line:
        raise EnvironmentFault("the process that watches over a policy's code ended before it")
    return int(line.removeprefix("ended "))


@lru_cache(maxsize=1)
def check_isolation() -> str:
    """What the system lacks to isolate code; "" where it lacks nothing. Asked once, by trying."""
    try:
        compile_filter()
        result = _run_code("", Limits(seconds=60), isolated=True)
    except (EnvironmentFault, OSError) as fault:
        return str(fault)
    return result.fault or ""


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
