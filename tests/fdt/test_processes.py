"""A rank ends with the process that started it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdt.processes import RankProcess, describe_process, find_ended, is_launched
from tests.helpers.paths import ROOT

CHILD = (
    "from fdt.processes import die_with_parent; import time; die_with_parent(); print('up', flush=True); time.sleep(60)"
)
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asked of Linux alone")
def test_a_killed_parent_takes_its_rank_along():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 10
    while is_running(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(child)


@pytest.mark.skipif(sys.platform != "linux", reason="asked of Linux alone")
def test_a_rank_that_was_killed_is_told_from_those_that_run():
    here = describe_process()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    other = RankProcess(child.pid, here.host, started)
    elsewhere = RankProcess(child.pid, "elsewhere", started)
    assert find_ended([here, other, elsewhere], 0.2) == []
    child.kill()
    assert find_ended([here, other, elsewhere], 10) == [1], "a zombie has ended; of another host nothing is known"
    child.wait()
    assert find_ended([here, other, elsewhere], 0) == [1]
    assert RankProcess(here.number, here.host, str(int(here.started) + 1)).has_ended(), "the number is another's now"


def test_ranks_that_torchrun_started_are_its_own(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert not is_launched()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert is_launched()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not is_launched()
