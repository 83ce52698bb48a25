"""The benchmark of accepted rewrites on a slice of the recorded solutions, and on cases worked out by hand."""

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

from feedback.graders import Agreement
from feedback.types import Episode, Task, Turn
from tests.helpers.paths import ROOT

GSM8K = Path(os.environ.get("FDT_GSM8K", ROOT.parent / "shared" / "data" / "gsm8k"))


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("rewrite_gate", ROOT / "benchmarks" / "rewrite_gate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["rewrite_gate"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def case(gate, number: int, answer: str, *drafts: tuple[str, bool]):
    task = Task(f"p{number}", ({"role": "user", "content": "?"},))
    texts, right = zip(*drafts, strict=True)
    episode = Episode(f"e{number}", task, (Turn("assistant", answer),))
    return gate.Case(task.key, episode, False, list(texts), list(right))


def test_shares_by_hand(gate):
    cases = [
        case(gate, 1, "A: 1", ("it is 2", True), ("so 2", True), ("A: 3", False)),  # two agree: accepted, right
        case(gate, 2, "A: 1", ("A: 5", False), ("it's 5", False), ("A: 4", True)),  # two agree: accepted, wrong
        case(gate, 3, "A: 1", ("A: 2", True), ("A: 3", False), ("A: 4", False)),
    ]  # nobody agrees
    pairs = gate.judge_cases(Agreement(), [cases])
    assert [right for _, right in pairs] == [True, False, None]
    line = gate.measure("agreement", pairs)
    assert line.answers == 3 and line.coverage == pytest.approx(2 / 3) and line.accepted == pytest.approx(1 / 2)
    assert line.drafts == pytest.approx(4 / 9) and line.same_rows == pytest.approx(3 / 6)
    assert line.over_drafts.mean == pytest.approx(1 / 2 - 4 / 9)


def test_the_random_gate_accepts_as_many(gate):
    cases = [case(gate, n, "A: 1", ("it is 2", True), ("so 2", True), ("A: 3", True)) for n in range(20)]
    pairs = [(one, one.right[0] if n < 7 else None) for n, one in enumerate(cases)]
    assert gate.measure("all right", pairs).over_random.mean == 0  # all drafts are right, so any gate is


def test_a_slice_of_the_recorded_solutions(gate):
    path = GSM8K / "example_model_solutions.jsonl"
    if not path.is_file():
        pytest.skip("set FDT_GSM8K to the folder of openai/grade-school-math's data")
    rounds = gate.load_recorded(path, 120)
    assert [len(cases) for cases in rounds] == [120] * 4
    shown = [cases[0].answer for cases in rounds]
    assert all(episode.task.reference is None for episode in shown)  # no gate can see the gold answer
    agreement = gate.measure("agreement", gate.judge_cases(Agreement(), rounds))
    assert 0.1 < agreement.coverage < 0.3 and agreement.over_drafts.low > 0
    shuffled = [
        (c, random.Random(n).choice(c.right) if right is not None else None)
        for n, (c, right) in enumerate(gate.judge_cases(Agreement(), rounds))
    ]
    assert gate.measure("a random draft of the same answers", shuffled).accepted < agreement.accepted
