"""`make mutants`: writes each mistake into a copy of the repository and runs the tests that must notice it.

`python -m tests.mutations.run` tries all of them, with words behind it those that break something of that name, and
with `--table` it prints docs/mutations.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.mutations import experience, learning, reading, running
from tests.mutations.mutant import Mutant

AREAS: dict[str, tuple[Mutant, ...]] = {
    "Reading files": reading.MUTANTS,
    "Experience": experience.MUTANTS,
    "Learning": learning.MUTANTS,
    "Running": running.MUTANTS,
}
MUTANTS = tuple(mutant for area in AREAS.values() for mutant in area)
COPIED = ("fdt", "feedback", "objectives", "tests", "configs", "docs", "pyproject.toml", "README.md")
PASSED, FAILED = 0, 1
"""What pytest ends with."""
HEAD = """# Mutants

Each line is a mistake that somebody could make in this code, and a test that fails where it is made. `make mutants`
makes all of them, one after the other in a copy of the repository, and fails where one survives (some minutes). A
test of the ordinary suite holds that the text of each still stands where it was.
"""


class Copy:
    """A copy of the repository, and a process that runs tests in it."""

    def __init__(self, root: Path) -> None:
        for name in COPIED:
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, root / name, ignore=ignored) if source.is_dir() else shutil.copy(source, root)
        self.root = root
        # Bytecode is told apart by time and size, which a mutant may share with what it replaces.
        env = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.mutations.worker"]
        pipe = subprocess.PIPE
        self.worker = subprocess.Popen(command, cwd=root, env=env, stdin=pipe, stdout=pipe, text=True)

    def run_tests(self, tests: Sequence[str]) -> tuple[int, str]:
        """The exit status of pytest, and the test that failed."""
        assert self.worker.stdin is not None and self.worker.stdout is not None
        self.worker.stdin.write(json.dumps(list(tests)) + "\n")
        self.worker.stdin.flush()
        found = json.loads(self.worker.stdout.readline())
        return found["status"], found["failed"]

    def try_mutant(self, mutant: Mutant) -> tuple[int, str]:
        """`run_tests` of a mutant's tests where the mistake is made; it is taken back afterwards."""
        text = mutant.apply(self.root)
        try:
            return self.run_tests(mutant.test.split())
        finally:
            (self.root / mutant.path).write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Ends the process."""
        assert self.worker.stdin is not None
        self.worker.stdin.close()
        self.worker.wait()


def judge(status: int) -> str:
    """killed, SURVIVED or NOT RUN, by what `Copy.run_tests` gave: a module that cannot be imported any more shows
    nothing about its tests."""
    return {PASSED: "SURVIVED", FAILED: "killed"}.get(status, "killed" if status < 0 else "NOT RUN")


def format_table() -> str:
    """The page docs/mutations.md."""
    lines = [HEAD]
    for area, mutants in AREAS.items():
        lines += [f"## {area}\n", "| Mistake | In | Killed by |", "|---|---|---|"]
        lines += [f"| {m.breaks} | `{m.path}` | {', '.join(f'`{test}`' for test in m.test.split())} |" for m in mutants]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The exit status: 0 where each mutant was killed by a test that passes without it."""
    if arguments == ["--table"]:
        print(format_table(), end="")
        return 0
    chosen = [m for m in MUTANTS if not arguments or any(word in f"{m.breaks} {m.path}" for word in arguments)]
    if stale := [mutant for mutant in chosen if (ROOT / mutant.path).read_text("utf-8").count(mutant.old) != 1]:
        print("\n".join(f"refused: {m.path} does not hold the text of {m.breaks!r} exactly once" for m in stale))
        return 1
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        tests = sorted({test for mutant in chosen for test in mutant.test.split()})
        status, failed = copy.run_tests(tests)
        if status != PASSED:
            print(f"without any mutant: {failed or 'no test could be run'} fails (status {status})")
            return 1
        for mutant in chosen:
            began = time.perf_counter()
            status, failed = copy.try_mutant(mutant)
            verdict = judge(status)
            survivors += verdict != "killed"
            seconds = time.perf_counter() - began
            print(f"{verdict:8} {seconds:5.1f} s  {mutant.breaks}  [{mutant.path}]  {failed}", flush=True)
        copy.close()
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
