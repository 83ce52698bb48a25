"""Scripts of measurement: all can be read by Python, and two of them by hand."""

import ast
import importlib
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
