"""An arm runs in a copy of the process that read the config: its own exit code, and nothing of it comes back."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import os, sys, time, atexit
from fdt.cli.run.arms import run_arm
from fdt.errors import UserError
seen = []

def run(argv):
    seen.append(argv)
    assert sys.argv[1:] == argv, "ranks are started with the arm's own command"
    atexit.register(lambda: print("closed", argv[0], os.getpid() != parent, flush=True))
    if argv[0] == "bad":
        raise UserError("lr", got=-1, expected="above 0")
    if argv[0] == "exit":
        sys.exit(3)
    if argv[0] == "crash":
        raise ZeroDivisionError("in the arm")
    if argv[0] == "wait":
        print("ready", flush=True)
        time.sleep(60)

parent = os.getpid()
names = sys.argv[1:]
print([run_arm([name], run) for name in names], seen, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an arm is started anew")
def test_an_arm_ends_with_its_own_exit_code_and_leaves_nothing_behind():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "fine", "bad", "exit", "crash"], capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[0, 2, 3, 1] []", done.stderr
    assert lines[:-1] == [f"closed {name} True" for name in ("fine", "bad", "exit", "crash")]
    assert "fdt: lr" in done.stderr and "ZeroDivisionError: in the arm" in done.stderr
    assert done.stderr.count("Traceback") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an arm is started anew")
def test_a_request_to_stop_reaches_the_arm():
    with subprocess.Popen([sys.executable, "-c", SCRIPT, "wait"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        began = time.monotonic()
        os.kill(run.pid, signal.SIGTERM)
        assert run.stdout.read().strip() == f"[{-signal.SIGTERM}] []"
        assert run.wait() == 0 and time.monotonic() - began < 30
