"""Graders that compute run in a process of their own: verdicts, time limits, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.graders import GymScore, MathMatch, extract_boxed
from feedback.graders.isolated import GraderProcess, get_process, require_library
from feedback.types import Episode, Task, Turn

pytest.importorskip("math_verify")
gym = pytest.importorskip("reasoning_gym")


def episode(response: str, reference: str | None, **meta: object) -> Episode:
    return Episode(
        "e", Task("t", ({"role": "user", "content": "?"},), reference, meta=dict(meta)), (Turn("assistant", response),)
    )


@pytest.fixture(scope="module")
def generous() -> MathMatch:
    """Time enough for a busy machine."""
    return MathMatch(seconds=60)


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [
        ("It is $\\frac{1}{2}$.", "0.5", 1),
        (r"so \boxed{\frac12}", "1/2", 1),
        ("It is 1/2.", r"\frac{1}{2}", 1),
        ("$1 + x$", "x+1", 1),
        ("$x - 1$", "$x+1$", 0),
        (r"$\sqrt{4}$", "2", 1),
        ("50%", "0.5", 1),
        ("33", "34", 0),
        ("no idea", "3", 0),
        ("", "3", 0),
    ],
)
def test_the_same_mathematics(generous, response, reference, score):
    (judged,) = generous([episode(response, reference)])
    assert judged.score == score
    assert judged.critique == (None if score else f"It is wrong: the right answer is {reference}.")


def test_mathematics_without_the_answer_told():
    grader = MathMatch(reveal=False, extract=extract_boxed, seconds=60)
    wrong, none = grader([episode(r"\boxed{4}", "5"), episode("4", "5")])
    assert wrong.critique == "It is wrong: 4 is not the right answer."
    assert none.critique == "It is wrong: it holds no answer."


def test_nothing_to_compare_with_is_ungraded(generous):
    with pytest.warns(UserWarning, match="no mathematics in the reference"):
        assert generous([episode("3", "??")])[0].feedback == ()
    assert generous([episode("3", None)])[0].feedback == ()


def test_what_never_ends_is_ungraded_and_the_next_answer_is_judged(generous):
    generous([episode("1", "1")])
    first = get_process("mathematics").process
    with pytest.warns(UserWarning, match="no verdict within 2 s"):
        assert MathMatch(seconds=2)([episode("$9^{9^{9^{9}}}$", "3")])[0].feedback == ()
    assert first.poll() is not None
    assert generous([episode("1", "1")])[0].score == 1


def test_a_process_that_dies_costs_one_verdict(generous):
    generous([episode("1", "1")])
    os.kill(get_process("mathematics").process.pid, signal.SIGKILL)
    with pytest.warns(UserWarning, match="the judging process died"):
        assert generous([episode("1", "1")])[0].feedback == ()
    assert generous([episode("1", "1")])[0].score == 1


def entry_of(dataset: str) -> dict:
    """As a file keeps it."""
    return json.loads(json.dumps(gym.create_dataset(dataset, seed=1, size=1)[0]))


def test_the_generators_own_scorer():
    entry = entry_of("letter_counting")
    right, wrong = GymScore(seconds=60)(
        [
            episode(f" {entry['answer']} ", entry["answer"], entry=entry, dataset="letter_counting"),
            episode("many", entry["answer"], entry=entry),  # the entry names its data set itself
        ]
    )
    assert (right.score, right.critique) == (1, None)
    assert (wrong.score, wrong.critique) == (0, f"It is wrong: the right answer is {entry['answer']}.")
    # The base class's scorer: the answer's share of a longer text.
    (part,) = GymScore(reveal=False, seconds=60)([episode(f"It is {entry['answer']}", None, entry=entry)])
    assert part.score == pytest.approx(len(entry["answer"]) / len(f"It is {entry['answer']}"))
    assert part.critique == f"It is not quite right: it earns {part.score:.2f} of 1."


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ("n_queens", "may run an answer as code .eval"),
        ("countdown", "may run an answer as code .parse_expr"),
        ("bitwise_arithmetic", "eval"),
        ("intermediate_integration", "sympy"),
        ("nowhere", "no data set 'nowhere'"),
    ],
)
def test_scorers_that_run_code_are_refused(dataset, reason, tmp_path):
    marker = tmp_path / "ran"
    hostile = f"[open({str(marker)!r}, 'w')]"
    one = episode(hostile, "x", entry={"answer": "x", "metadata": {}}, dataset=dataset)
    with pytest.warns(UserWarning, match=reason):
        (judged,) = GymScore(seconds=60)([one])
    assert judged.feedback == () and not marker.exists()


def test_every_scorer_that_names_eval_is_refused():
    """Read in another way than the grader reads: by text."""
    import inspect
    import sys

    from reasoning_gym.factory import DATASETS

    from feedback.graders.programs.gym import find_code_calls

    refused = {name for name, (kind, _) in DATASETS.items() if find_code_calls(kind)}
    for name, (kind, _) in DATASETS.items():
        if any(call in inspect.getsource(kind.score_answer) for call in ("eval(", "exec(", "parse_expr(", "sympify(")):
            assert name in refused or "def parse_expr" in Path(sys.modules[kind.__module__].__file__).read_text(), name
    assert {"binary_matrix", "countdown", "n_queens", "puzzle24", "spiral_matrix", "string_insertion"} <= refused
    assert "chain_sum" not in refused and len(refused) < 20 < 80 < len(DATASETS)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"entry": "x"},
        {"entry": {"answer": 3}, "dataset": "chain_sum"},
        {"entry": {"answer": "3"}},
        {"entry": {"answer": "3", "metadata": {"source_dataset": 7}}},
    ],
)
def test_without_an_entry_nothing_is_judged(meta):
    assert GymScore()([episode("3", "3", **meta)])[0].feedback == ()


def test_an_entry_that_breaks_its_scorer_is_ungraded():
    one = episode("1 2", "x", entry={"answer": "x", "metadata": {}}, dataset="word_sorting")
    with pytest.warns(UserWarning, match="the grader failed .KeyError"):
        assert GymScore(seconds=60)([one])[0].feedback == ()
    with pytest.warns(UserWarning, match="cannot be written as JSON"):
        GymScore()([episode("x", "x", entry={"answer": "x", "metadata": {1, 2}}, dataset="chain_sum")])


@settings(max_examples=25)
@given(st.text(max_size=60) | st.text("0123456789+-*/^().\\{}$fracsqt ", max_size=30), st.none() | st.text(max_size=20))
def test_any_text_is_judged_0_or_1_or_not_at_all(response, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (judged,) = MathMatch(seconds=20)([episode(response, reference)])
    assert all(item.score in (0, 1) for item in judged.feedback)


def test_the_process_knows_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    judge = GraderProcess("mathematics")
    judge.ask(60, answer="1", right="1")
    environment = Path(f"/proc/{judge.process.pid}/environ").read_bytes()
    limits = Path(f"/proc/{judge.process.pid}/limits").read_text()
    judge.close()
    assert b"s3cret" not in environment and judge.process is None
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max file size")] == [["0", "0"]]


def test_a_missing_library_is_named_with_its_remedy():
    with pytest.raises(ValueError, match=r"nothing_here: not installed.*'feedback-distillation-trainer\[math\]'"):
        require_library("nothing_here", "math")
    with pytest.raises(RuntimeError, match="nothing: its process does not start: ModuleNotFoundError"):
        GraderProcess("nothing").ask(1)
