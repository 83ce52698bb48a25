"""Runs tests in a copy of the repository, each time in a fork of a process that has imported the heavy libraries once.

Reads a JSON list of tests a line and answers with a line of JSON: the exit status of pytest, and the test that failed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection

import pytest

LONGEST = 600
"""Seconds after which tests count as hanging."""
HEAVY = ("torch", "transformers", "lightning.pytorch", "peft", "hypothesis", "pyarrow", "transformers.models.llama")


class Outcome:
    """Remembers the first test that failed, and how many passed."""

    name = ""
    passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.passed and report.when == "call"
        if report.failed and not self.name:
            self.name = report.nodeid


def run_tests(names: list[str], answer: Connection) -> None:
    """Runs these tests up to the first failure and sends what came of it."""
    noted = Outcome()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    status = pytest.main([*options, "-m", "not slow", *names], plugins=[noted])
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        status = pytest.main([*options, *names], plugins=[noted])
    if status == pytest.ExitCode.OK and not noted.passed:  # a machine that lacks something skips all
        status = pytest.ExitCode.NO_TESTS_COLLECTED
    answer.send((int(status), noted.name))
    os._exit(0)  # what a test left running is none of ours


def answer_line(line: str) -> dict[str, object]:
    """What came of one list of tests; -1 as the status of those that hang or end their process."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=run_tests, args=(json.loads(line), theirs))
    child.start()
    theirs.close()
    try:
        status, name = ours.recv() if ours.poll(LONGEST) else (-1, "")
    except EOFError:
        status, name = -1, ""
    child.kill()
    child.join()
    return {"status": status, "failed": name}


def main() -> None:
    """Answers until nobody asks any more."""
    for module in HEAVY:
        __import__(module)
    for line in sys.stdin:
        print(json.dumps(answer_line(line)), flush=True)


if __name__ == "__main__":
    main()
