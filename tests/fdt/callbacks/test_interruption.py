"""Signals, the folder's lock, the log file and what a run says about itself, in real runs of the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdt.callbacks.interruption import ECHO, Interruption
from fdt.errors import Interrupted
from tests.helpers.runs import command, config, environment, quick


def start(path: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        command("fit", "-c", path, *arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, text: str, run: subprocess.Popen, seconds: float = 120) -> None:
    """Waits until a file holds the text."""
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert run.poll() is None, run.communicate()[0][-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_says_how_to_go_on(tmp_path: Path, number: int):
    run = start(config(tmp_path, "replay", trainer__max_steps=100_000))
    log = tmp_path / "run" / "log.txt"
    wait_for(log, "step 3/", run)
    second = quick("fit", "-c", tmp_path / "config.yaml")
    assert second.returncode == 2
    assert "another run is writing to this folder" in second.stderr
    run.send_signal(number)
    told = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + number, told[-3000:]
    done = int(re.findall(r"stopped after step (\d+), which is saved; go on: fdt fit --ckpt_path", told)[0])
    assert "Traceback" not in told
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert last.samefile(last.with_name(f"step-{done}.ckpt"))  # the bytes are there once
    resumed = quick("fit", "--ckpt_path", tmp_path / "run", "--trainer.max_steps", str(done + 2))
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    steps = [int(n) for n in re.findall(r"step (\d+)/", log.read_text())]
    assert steps == list(range(1, done + 3))  # one line a step, none twice, none missing
    parts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(parts) == 2
    assert {"torch", "fdt", "python"} <= set(parts[0]["versions"])
    assert list(parts[0]["data"]) == [str(tmp_path / "rows.jsonl")]
    assert "max_steps" in parts[1]["command"]


def wait_until_caught(number: signal.Signals, run: subprocess.Popen) -> None:
    """Waits until a process has a handler for a signal: before that, the signal ends it as it does any process."""
    status = Path(f"/proc/{run.pid}/status")
    for _ in range(600):
        assert run.poll() is None, "the run ended before it was told to"
        caught = int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16)
        if caught >> (number - 1) & 1:
            return
        time.sleep(0.1)
    pytest.fail(f"no handler for {number.name} after a minute")


@pytest.mark.slow
def test_a_signal_is_heard_while_the_base_is_measured(tmp_path: Path):
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"prompt": f"{n}+1?", "reference": str(n + 1)}) + "\n" for n in range(20_000)))
    run = start(config(tmp_path, data__heldout=str(held)))
    wait_until_caught(signal.SIGTERM, run)
    time.sleep(2)  # measuring is under way
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    told = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + signal.SIGTERM, told[-3000:]
    assert time.monotonic() - began < 15
    assert "stopped before anything was trained" in told or "Terminated" in told or not told


def test_output_without_a_terminal_has_a_line_a_step(tmp_path: Path):
    told = quick("fit", "-c", config(tmp_path, "replay", trainer__max_steps=2))
    assert told.returncode == 0, told.stderr[-2000:]
    lines = re.findall(r"^step (\d)/2 loss \S+ .* \S+ s$", told.stdout, re.MULTILINE)
    assert lines == ["1", "2"]
    assert os.path.samefile(
        tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "run" / "checkpoints" / "step-2.ckpt"
    )


def test_one_stop_sent_twice_is_one_and_a_later_one_ends_at_once(monkeypatch):
    """Whoever stops a job often signals the group and each process."""
    now = [100.0]
    monkeypatch.setattr("fdt.callbacks.interruption.time.monotonic", lambda: now[0])
    own = Interruption()
    own._receive(signal.SIGTERM, None)
    now[0] += ECHO / 2
    own._receive(signal.SIGTERM, None)
    assert own.received == signal.SIGTERM
    now[0] += ECHO
    with pytest.raises(Interrupted, match="stopped at once"):
        own._receive(signal.SIGTERM, None)


def test_runs_in_one_process_leave_no_signal_handler_and_no_model_behind(tmp_path: Path):
    """As notebooks and benches run them: a handler that stayed held each run's model until the process ended."""
    code = (
        "import gc, signal, sys\n"
        "from fdt.cli.run.main import main\n"
        "from fdt.learner import Learner\n"
        "before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]\n"
        "for place in sys.argv[2:]:\n"
        "    main(['fit', '-c', sys.argv[1], f'--trainer.default_root_dir={place}'])\n"
        "    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before\n"
        "gc.collect()\n"
        "learners = sum(type(thing) is Learner for thing in gc.get_objects())\n"
        "assert learners <= 1, f'{learners} of three runs are still there'\n"
    )
    path = config(tmp_path, "replay", trainer__max_steps=1)
    places = [tmp_path / name for name in ("one", "two", "three")]
    done = subprocess.run(
        [sys.executable, "-c", code, path, *places], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
