"""Ranks that hang, die or are told to stop: the run ends in bounded time, says which rank, and leaves no process."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fdt.callbacks.reliability import watchdog
from fdt.callbacks.reliability.watchdog import HUNG
from fdt.processes import RankProcess, describe_process
from tests.helpers.ranks import find_processes, start_ranks, wait_for_end, wait_for_text
from tests.helpers.runs import config, quick

pytestmark = pytest.mark.slow
LIMIT = 25.0
"""Seconds that a step may take; the machine of the tests may be busy."""


def prepare(folder: Path, how: str, rank: int) -> Path:
    """A run whose grader fails on one rank after the base is measured and a step is taken."""
    callbacks = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1}},
        {"class_path": "fdt.callbacks.reliability.Watchdog", "init_args": {"step_timeout": LIMIT}},
    ]
    # Two batches of held-out prompts on one rank, one on each of two.
    grader = {"class_path": "tests.helpers.probes.FailsOnRank", "init_args": {"how": how, "rank": rank, "after": 3}}
    return config(folder, trainer__callbacks=callbacks, data__grader=grader, trainer__max_steps=50)


def test_one_process_that_hangs_ends_and_says_where(tmp_path):
    began = time.monotonic()
    done = quick("fit", "-c", prepare(tmp_path, "hang", 0))
    assert done.returncode == HUNG, done.stderr[-2000:]
    assert time.monotonic() - began < LIMIT + 120
    assert re.search(r"rank 0 hangs after step \d+: nothing ended in 25 s. It is at .*probes.py, line \d+", done.stderr)


@pytest.mark.parametrize("how", ["hang", "kill"])
def test_a_rank_that_fails_takes_the_other_along(tmp_path, how):
    path = prepare(tmp_path, how, 1)
    run = start_ranks(path)
    try:
        wait_for_text(tmp_path / "run" / "log.txt", "step 1/", run)
        began = time.monotonic()
        told = run.communicate(timeout=LIMIT + 120)[0]
        wait_for_end(path, 10)
        assert run.returncode != 0 and not find_processes(path)
        assert time.monotonic() - began < LIMIT + 40
        if how == "hang":
            assert "rank 1 hangs after step" in told, told[-3000:]
        else:
            assert re.search(r"rank 1 \(process \d+ on \S+\) was killed by SIGKILL after step \d+", told), told[-3000:]
            assert "rank 0 failed" not in told, "it waited, and is not at fault"
    finally:
        end_group(run)


def test_a_rank_that_waits_leaves_the_last_word_to_the_one_that_hangs(monkeypatch):
    """The one that waits may be late first: were it to end the run at once, nobody would learn where the other hung."""
    monkeypatch.setattr(watchdog, "WAITING", 2.0)
    ended, over = [], threading.Event()

    class Ends(watchdog.Watchdog):
        def _end(self, stack):
            ended.append(threading_names[self._watched])
            self._stop()

    def stand_in(file: str) -> None:
        threading_names[threading.get_ident()] = file
        Ends(step_timeout=0.2)._see(None)
        exec(compile("over.wait(60)", file, "exec"), {"over": over})

    threading_names: dict[int, str] = {}
    files = ["/site-packages/torch/distributed/distributed_c10d.py", "/home/me/grader.py"]
    threads = [threading.Thread(target=stand_in, args=[file]) for file in files]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert ended == files[::-1]


@pytest.mark.skipif(sys.platform != "linux", reason="asked of Linux alone")
def test_a_rank_of_another_launcher_is_named_by_the_exchange_that_failed(capsys):
    """As of torchrun, which starts each rank: this one can tell that the other is gone, and not by which signal."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    here = describe_process()
    watch = watchdog.Watchdog()
    watch._trainer = SimpleNamespace(
        world_size=2, global_rank=0, global_step=3, strategy=SimpleNamespace(launcher=None)
    )
    started = Path(f"/proc/{other.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    watch._ranks = [here, RankProcess(other.pid, here.host, started)]
    other.kill()
    watch.on_exception(watch._trainer, None, RuntimeError("Connection closed by peer"))
    other.wait()
    told = capsys.readouterr().err
    assert f"rank 1 (process {other.pid} on {here.host}) has ended, killed or crashed after step 3; rank 0" in told
    assert "failed" not in told
    watch._ranks = [here, here]
    watch.on_exception(watch._trainer, None, RuntimeError("mine"))
    assert "rank 0 failed: mine" in capsys.readouterr().err


def test_a_rank_whose_threads_are_still_ending_is_named_with_its_signal(capsys):
    """Its first thread is gone, and the kernel has no exit code before the last one is."""

    class Ending:
        def poll(self):
            return None

        def wait(self, timeout):
            return -signal.SIGKILL

    class Running(Ending):
        def wait(self, timeout):
            raise AssertionError("it has not ended")

    watch = watchdog.Watchdog()
    launcher = SimpleNamespace(procs=[Running(), Ending()])
    watch._trainer = SimpleNamespace(global_rank=0, global_step=3, strategy=SimpleNamespace(launcher=launcher))
    watch._ranks = [describe_process()] * 3
    watch._name_ended([2])
    assert "rank 2" in (told := capsys.readouterr().err) and "was killed by SIGKILL after step 3" in told


def test_a_signal_to_both_ranks_saves_and_one_bad_sample_is_named(tmp_path):
    callbacks = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1000}},
        {"class_path": "tests.helpers.probes.Poison", "init_args": {"step": 1, "rank": 1}},
    ]
    path = config(tmp_path, "replay", trainer__callbacks=callbacks, trainer__max_steps=100_000)
    run = start_ranks(path)
    try:
        wait_for_text(tmp_path / "run" / "log.txt", "step 3/", run)
        began = time.monotonic()
        os.killpg(run.pid, signal.SIGTERM)
        told = run.communicate(timeout=60)[0]
        assert run.returncode == 128 + signal.SIGTERM, told[-3000:]
        assert time.monotonic() - began < 30 and wait_for_end(path, 10) < 10
        poisoned = re.findall(r"poison: (\S+)", told)[0]
        named = re.search(r"changed no weight: its [\w-]+ is not finite; samples: (.*)", told)
        assert named is not None and f"{poisoned} (rank 1)" in named[1], told[-3000:]
        step = int(re.findall(r"stopped after step (\d+), which is saved", told)[0])
        assert (tmp_path / "run" / "checkpoints" / f"step-{step}.ckpt").is_file()
    finally:
        end_group(run)


def end_group(run: subprocess.Popen) -> None:
    """Ends what a failed test left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
