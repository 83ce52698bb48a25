"""Scripts of measurement: all can be read by Python, and two of them by hand."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fdt.evaluation.underthinking import split_thoughts
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tokenizer

FOLDER = ROOT / "benchmarks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_is_python_with_a_description(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_near_answers_are_near_and_wrong(script):
    found = script("reasoning_judge").make_questions(64)
    assert len(found) == 64
    assert all(abs(int(near) - int(right)) in (1, 2, 10) and int(near) >= 0 for _, right, near in found)
    assert all(sum(map(int, text.split(" + "))) == int(right) for text, right, _ in found)


def test_a_pair_is_won_lost_or_shared(script):
    won = script("reasoning_judge").compute_wins(np.array([1.0, 0.0, -2.0]), np.array([0.5, 0.0, -1.0]))
    assert won.tolist() == [1.0, 0.5, 0.0]


def test_what_came_after_a_right_thought_is_wasted(script):
    """Two thoughts, the right number in the first, the wrong one last: a switch, and the second thought is waste."""
    words = tokenizer()
    first, second = "3 and 4 are 7. ", "Alternatively, 8."
    thinking, switches = script("switching").judge_answer(first + second, "7", words)
    assert (thinking.correct, switches) == (False, 1)
    assert thinking.useful == len(words(split_thoughts(first + second)[0])["input_ids"]) < thinking.tokens
    right, none = script("switching").judge_answer("It is 7.", "7", words)
    assert (right.correct, none, right.waste_share) == (True, 0, 0.0)


@pytest.mark.slow
def test_log_probs_are_timed_and_a_kernel_that_cannot_run_says_why():
    command = [sys.executable, str(FOLDER / "log_probs.py"), "--tokens", "4", "--vocabularies", "64", "--repeats", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [*command, "--dtype", "float32"], capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    chunked, liger = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| 64")]
    assert chunked[1] == "chunked" and float(chunked[3]) >= 0 and float(chunked[4]) < 0
    assert liger[1] == "liger" and "not measured: " in liger[2] and "expected a CUDA device" in liger[2]


def test_a_card_times_every_kernel_over_the_head_that_it_serves(script):
    gpu = script("gpu")
    stages = gpu.build_stages(gpu.read_arguments([]), ["a", "b"])
    asked = [command for title, command, _ in stages if title.startswith("Log-probs of target tokens")]
    assert ["--train-head" in command for command in asked] == [False, True]
    assert [script("log_probs").find_paths(dtype) for dtype in ("bfloat16", "float32")] == [
        ["chunked", "cut_cross_entropy"],
        ["chunked", "liger"],
    ]
    assert ["float32" in command for command in asked] == [False, True]  # the other one's default is bfloat16
