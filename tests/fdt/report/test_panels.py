"""Calibration, trends, cost and the judges' ledger: the panels say what the run's files say."""

import json
import math
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from fdt.callbacks.accounting import count_by_annotator
from fdt.callbacks.transcripts import _list_annotators
from fdt.evaluation.base import Answers
from fdt.report.panels.calibration import compute_calibrations, get_confidence
from fdt.report.panels.costs import build_cost, build_judge_cost
from fdt.report.panels.diversity import compute_diversity, format_pass_at_k
from fdt.report.panels.ledger import build_ledger
from fdt.report.panels.reliability import save_reliability, wilson
from fdt.report.panels.trends import add_trends
from fdt.report.runs import Run, find_runs, read_run
from fdt.statistics import calibration as formulas
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.run_folder import HOSTILE, answers, write_arm, write_lines


def stating(pairs):
    """Held-out records of (score, confidence) pairs; a confidence of None is not stated."""
    return [
        {"id": str(n), "score": score, "scores": {} if q is None else {"confidence": q}}
        for n, (score, q) in enumerate(pairs)
    ]


def test_the_panel_s_numbers_are_the_worked_ones():
    pairs = [(1, 0.95), (0, 0.95), (1, 0.65), (1, 0.65), (0, 0.15), (1, 1.0), (1, None), (None, 0.3)]
    (one,) = compute_calibrations([Run("arm", None, evals={"last": stating(pairs)})])
    assert one.answers == 7 and one.stated_share == pytest.approx(6 / 7) and one.accuracy == pytest.approx(4 / 6)
    assert one.error == pytest.approx(0.29167, abs=5e-6) and one.brier.mean == pytest.approx(0.19542, abs=5e-6)
    assert one.auroc.mean == 0.6875 and one.auroc.low <= 0.6875 <= one.auroc.high
    assert one.debiased.mean == formulas.debiased_ece(one.confidence, one.correct)
    assert one.parts.calibration + one.parts.refinement + one.parts.within == pytest.approx(one.brier.mean)
    assert one.alarm is None and not one.is_base


def test_scores_between_0_and_1_are_counted():
    (one,) = compute_calibrations([Run("arm", None, evals={"last": stating([(0.5, 0.9), (0.4, 0.1), (1, 0.8)])})])
    assert one.correct.tolist() == [1, 0, 1] and one.between == 2


def test_a_collapse_is_reported(root):
    path = root / "replay" / "eval" / "last.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [{**record, "scores": {"confidence": 0.95}} for record in records])
    from fdt.report import write_report

    page = write_report(root).read_text(encoding="utf-8")
    assert (
        "Collapse: replay." in page and "100 % of the answers state 0.95" in page and "Collapse: on-policy" not in page
    )


def test_bases_that_agree_stand_once():
    evals = {"base": stating([(1, 0.9), (0, 0.2)]), "last": stating([(1, 0.8), (0, 0.1)])}
    found = compute_calibrations([Run("one", None, evals=evals), Run("two", None, evals=evals)])
    assert [one.label for one in found] == ["base of one", "one", "two"]
    assert (
        compute_calibrations([Run("none", None, evals={"last": answers([1.0])})]) == []
    )  # the first answer states nothing


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ({"scores": {"confidence": 0.7}}, 0.7),
        ({"confidence": 0.4}, 0.4),
        ({"scores": {"confidence": 1.2}}, None),
        ({"scores": [0.7]}, None),
        ({"scores": {"confidence": "0.7"}}, None),
        ({}, None),
    ],
)
def test_where_a_confidence_stands(record, value):
    found = get_confidence(record)
    assert isnan(found) if value is None else found == value


def test_pictures_are_drawn_for_every_arm(root, tmp_path):
    from matplotlib.image import imread

    paths = save_reliability(compute_calibrations(find_runs(root)), tmp_path)
    assert list(paths) == ["Calibration: on-policy", "Calibration: replay"]
    for path in paths.values():
        assert ((imread(path)[..., :3] < 0.98).any(-1)).mean() > 0.01


def test_wilson_by_hand():
    # 8 of 10: (0.8 + 0.19208 ± 1.96 sqrt(0.016 + 0.009604)) / 1.38416.
    assert wilson(0.8, 10) == pytest.approx(((0.99208 - 0.313625) / 1.38416, (0.99208 + 0.313625) / 1.38416), abs=1e-5)
    assert wilson(0, 5)[0] == pytest.approx(0, abs=1e-12) and wilson(0, 5)[1] > 0.3


def test_trends_are_means_over_a_step_s_answers(tmp_path):
    folder = write_arm(tmp_path / "arm")
    said = "one two three four one two three four"  # five phrases of four words, one of them twice
    write_lines(
        folder / "transcripts.jsonl",
        [
            {"step": 0, "id": "a", "prompt": "p", "response": said},
            {"step": 0, "id": "b", "prompt": "p", "response": "x"},
            {"step": 0, "id": "a", "prompt": "p", "response": "x"},  # a resumed run said it again: this one counts
            {"step": 1, "id": "a", "prompt": "p", "response": said},
            {"step": 90, "id": "a", "prompt": "p", "response": "As the feedback says, 3."},
            {"step": 90, "id": "b", "prompt": "Give feedback.", "response": "My feedback is good."},
        ],
    )
    run = add_trends(read_run(folder))
    steps, values = run.get_series("answers/repetition")
    assert steps.tolist() == [0, 1, 90] and values.tolist() == pytest.approx([0, 0.2, 0])
    assert run.get_series("answers/hint_leak")[1].tolist() == [0, 0, 0.5]
    # What was logged stays at its step, and the new step is blank there.
    before, after = read_run(folder).get_series("train/reward/mean"), run.get_series("train/reward/mean")
    assert np.array_equal(before, after) and len(run.metrics["step"]) == len(read_run(folder).metrics["step"]) + 1


def test_without_answers_there_are_no_trends(tmp_path):
    folder = write_arm(tmp_path / "arm")
    (folder / "transcripts.jsonl").unlink()
    run = read_run(folder)
    assert add_trends(run) is run


def test_cost_by_hand():
    metrics = {
        "step": np.arange(3.0),
        "train/loss": np.ones(3),
        "train/time/step": np.array([2.0, 4.0, 6.0]),
        "train/time/tokens_per_s": np.array([100.0, 50.0, np.nan]),
    }
    found = build_cost(replace(Run("arm", Path("nowhere")), metrics=metrics))
    assert (found.steps, found.minutes, found.step_s, found.slowest_s) == (3, 0.2, 4, 6)
    assert found.tokens == pytest.approx(400e-6) and found.tokens_per_s == pytest.approx(400 / 6)
    assert not build_cost(Run("arm", Path("nowhere"))).has_values


def test_what_judges_took_by_hand():
    metrics = {
        "step": np.arange(3.0),
        "train/judge/replies": np.array([4.0, 2.0, np.nan]),
        "train/judge/kept": np.array([0.0, 2.0, np.nan]),
        "train/judge/failed": np.array([0.0, 1.0, np.nan]),
        "train/judge/prompt_tokens": np.array([40.0, 20.0, np.nan]),
        "train/judge/completion_tokens": np.array([8.0, 4.0, np.nan]),
        "val/judge/replies": np.array([np.nan, np.nan, 3.0]),
    }
    found = build_judge_cost(replace(Run("arm", Path("nowhere")), metrics=metrics))
    assert found is not None
    assert (found.replies, found.kept, found.failed, found.prompt_tokens, found.completion_tokens) == (9, 2, 1, 60, 12)
    assert math.isnan(found.cost), "without prices nothing is known of the cost"
    assert build_judge_cost(Run("arm", Path("nowhere"))) is None
    # A gateway that was made and never asked is no judge that cost nothing.
    none = {"step": np.arange(1.0), "train/judge/replies": np.zeros(1)}
    assert build_judge_cost(replace(Run("arm", Path("nowhere")), metrics=none)) is None


def test_who_gave_the_feedback_and_what_came_of_it(written):
    found = build_ledger(read_run(written / "on-policy"))
    by_model, nameless = found.judges
    assert (by_model.source, by_model.annotator, by_model.rows, by_model.used, by_model.critiques) == (
        "llm",
        HOSTILE,
        200,
        190,
        180,
    )
    assert (nameless.annotator, nameless.rows, nameless.distilled) == ("not named", 20, 0)
    # One episode a step is criticised with its tokens recorded, and steps that were taken again count once.
    assert by_model.distilled == found.distilled == 12 and by_model.without_effect == found.without_effect


def test_the_account_counts_rows_by_judge():
    task = Task("t", ({"role": "user", "content": "p"},))
    kim, lee = Feedback(annotator="kim", score=1.0), Feedback("llm", "lee", text="no")
    episodes = [
        Episode(name, task, (Turn("assistant", "r"),), said)
        for name, said in (("a", (kim, lee, lee)), ("b", (kim,)), ("c", ()))
    ]
    assert count_by_annotator(episodes, {"a", "c"}) == [
        {"source": "human", "annotator": "kim", "rows": 2, "used": 1, "critiques": 0},
        {"source": "llm", "annotator": "lee", "rows": 1, "used": 1, "critiques": 1},
    ]
    assert _list_annotators(episodes[0], None) == [{"source": "llm", "annotator": "lee"}]


def test_records_keep_the_named_scores():
    said = (
        Feedback(name="correct", score=1.0),
        Feedback(name="correct", score=0.0),
        Feedback(text="only words"),
        Feedback(name="confidence", score=0.7),
        Feedback(name="turn", score=1.0, turn=0),
    )
    task = Task("t", ({"role": "user", "content": "?"},))
    episode = Episode("a", task, (Turn("assistant", "!"),), said)
    record = Answers()._build_record(episode, -1.0)
    assert record["scores"] == {"correct": 0.5, "confidence": 0.7, "turn": 1.0, "score": pytest.approx(episode.score)}


def sampled(scores):
    """Held-out records of several samples each; a second measure that the first prompt lacks."""
    return [
        {
            "id": str(n),
            "score": score,
            "pass_at_2": score,
            "solutions": 2 - score,
            "samples": [{}, {}],
            "entropy": None if n == 0 else 0.5,
        }
        for n, score in enumerate(scores)
    ]


def test_diversity_before_and_after_is_paired_by_prompt(root):
    run = Run("arm", None, evals={"base": sampled([0.0, 1.0, 0.0, 1.0]), "last": sampled([1.0, 1.0, 0.0, 1.0])})
    found = {one.label: one for one in compute_diversity([run])}
    assert found["pass@2"].change.mean == 0.25 and found["pass@2"].before.mean == 0.5 and found["pass@2"].prompts == 4
    assert found["different solutions a prompt"].change.mean == -0.25 and found["entropy, nats/token"].prompts == 3
    assert len(found) == 3 and not compute_diversity(
        [Run("greedy", None, evals={"base": stating([(1, 0.9)]), "last": []})]
    )
    assert format_pass_at_k("pass_at_8_within_3") == "pass@(8, 3 turns)"
    for name, values in (("base", [0.0] * 4), ("last", [1.0] * 4)):
        write_lines(root / "replay" / "eval" / f"{name}.jsonl", sampled(values))
    from fdt.report import write_report

    page = write_report(root).read_text(encoding="utf-8")
    assert 'id="diversity"' in page and "pass@2" in page
    (root / "replay" / "eval" / "last.jsonl").unlink()
    assert 'id="diversity"' not in write_report(root).read_text(encoding="utf-8")
