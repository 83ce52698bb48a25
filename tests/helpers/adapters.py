"""Tests that need a package in an environment of its own (`make adapters`)."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.runs import environment

CASES = ROOT / "tests" / "adapters"
HOME = ROOT / os.environ.get("FDT_ADAPTERS", ".venv-adapters")


def run_cases(name: str, **env: str) -> None:
    """Runs ``tests/adapters/<name>_cases.py`` in that environment; none of it may be skipped.

    Args:
        name: of the environment.
        env: variables that its process gets.
    """
    if not (HOME / name / ".installed").exists():
        pytest.skip(f"{name} is not installed: run make adapters")
    done = subprocess.run(
        [HOME / name / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES / f"{name}_cases.py"],
        env=environment(PYTHONPATH=f"{ROOT}:{CASES}", **env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
