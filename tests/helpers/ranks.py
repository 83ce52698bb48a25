"""Runs of the command on two ranks, started, watched, and looked for after their end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.runs import command, environment

BOTH = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def start_ranks(path: Path, *arguments: str) -> subprocess.Popen:
    """``fdt fit`` on two ranks, in a process group of its own."""
    return subprocess.Popen(
        command("fit", "-c", path, *BOTH, *arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish_ranks(running: Sequence[subprocess.Popen], seconds: float) -> None:
    """Waits until all ranks have ended well; none is left, however this ends."""
    try:
        for process in running:
            text, _ = process.communicate(timeout=seconds)
            assert process.returncode == 0, text[-3000:]
    finally:
        for process in running:
            process.kill()


def find_processes(path: Path) -> list[int]:
    """Processes whose command line names this file."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            state = (place / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(path).encode() in words and state != "Z" and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def wait_for_end(path: Path, seconds: float) -> float:
    """Seconds until no process of the run is left; at most so many."""
    began = time.monotonic()
    while find_processes(path) and time.monotonic() - began < seconds:
        time.sleep(0.1)
    return time.monotonic() - began


def wait_for_text(path: Path, text: str, run: subprocess.Popen, seconds: float = 200) -> None:
    """Waits until a file holds the text."""
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert run.poll() is None, run.communicate()[0][-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)
