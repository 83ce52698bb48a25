"""The step beside TRL's and the script for growth, at tiny shapes."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.helpers.paths import ROOT
from tests.helpers.tiny import tokenizer

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
    )


@pytest.mark.slow
def test_a_step_beside_trl(tiny_model):
    """Both trainers run and report, and do the same work on the same rollouts."""
    sizes = "--prompts 2 --generations 2 --prompt-tokens 120 --answer-tokens 4 --steps 1 --dtype float32"
    done = run(str(FOLDER / "versus_trl.py"), "--model", str(tiny_model), "--algorithms", "sdpo", *sizes.split())
    assert not done.returncode, done.stderr[-3000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| sdpo")]
    assert [row[1].strip() for row in rows] == ["TRL", "fdt", "fdt / TRL"]
    # Seconds of so small a step may be rounded to none.
    assert all(float(cell) > 0 for row in rows[:2] for cell in row[5:8])
    assert "Same work: sdpo" in done.stdout


def test_different_work_is_noticed(script):
    comparison = script("versus.same_work").Comparison
    assert comparison((0.5, 0.5), (1.0, 1.0), 1e-5).same
    assert not comparison((0.5, 0.51), (1.0, 1.0), 1e-5).same
    assert not comparison((0.5, 0.5), (1.0, 1.0), 0.01).same


def test_prompts_have_the_length_that_is_asked_for(script):
    words = tokenizer()
    for text in script("versus.work").make_prompts(words, 3, 130):
        messages = [{"role": "user", "content": text}]
        assert len(words.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]) == 130
    with pytest.raises(ValueError, match="nearest"):
        script("versus.work").make_prompts(words, 1, 10)


def test_a_part_inside_another_counts_once(script):
    clock = script("versus.work").Clock("cpu")
    with clock.measure("forward"), clock.measure("rollout"):
        time.sleep(0.02)
    assert list(clock.seconds) == ["forward"] and clock.seconds["forward"] >= 0.02


def test_exponents(script):
    fit = script("growth").fit_exponent
    assert fit([10, 100, 1000], [3.0, 30.0, 300.0]) == pytest.approx(1)
    assert fit([10, 100, 1000], [7.0, 7.0, 7.0]) == pytest.approx(0)


@pytest.mark.slow
def test_a_cell_of_growth(script, tmp_path: Path):
    cell = json.dumps({"axis": "rows", "rows": 40, "steps": 2})
    done = run(str(FOLDER / "growth.py"), "--cell", cell, str(tmp_path))
    assert not done.returncode, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"start", "first", "step", "peak"} and min(found.values()) > 0


def test_random_models_have_words(script):
    words = AutoTokenizer.from_pretrained(script("versus.models").WORDS)
    assert words.chat_template and words.eos_token_id is not None
