"""The README's own-data commands, as they stand, from an empty folder to an exported model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.runs import environment


def read_commands(heading: str) -> str:
    """The first block of shell commands under a heading of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_own_feedback_from_the_readme(tmp_path: Path) -> None:
    from fdt.policy.hub import DEFAULT, get_cache_root

    if not (get_cache_root() / DEFAULT).exists():
        pytest.skip(f"the default model is not in {get_cache_root()}; `fdt model` fetches it")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    commands = f'set -e\nfdt() {{ "{sys.executable}" -m fdt "$@"; }}\n' + read_commands("Your own feedback")
    done = subprocess.run(
        [bash, "-c", commands],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = len((tmp_path / "mine.jsonl").read_text().splitlines())
    account = json.loads((tmp_path / "runs" / "fdt" / "accounting.json").read_text())
    assert account["rows"] == rows
    assert sum(account["used"].values()) == rows - 1  # all but the prompt that is held out
    assert json.loads((tmp_path / "runs" / "fdt" / "predictions.jsonl").read_text())["response"]
    assert (tmp_path / "my-model" / "merged" / "model.safetensors").exists()
    assert (tmp_path / "runs" / "fdt" / "report.html").exists()
