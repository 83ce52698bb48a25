"""What a term trained on is known by its own signal: in the account, the warnings, the transcripts and the page."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fdt.report import write_report
from feedback.graders import Grader
from feedback.types import Episode, Feedback
from objectives import Loss, Rollouts, Term, TokenLogProbs
from objectives.losses.term import average_weighted, find_weighted, place_signal
from tests.helpers.runs import config, quick


@dataclass(frozen=True)
class SameScore(Grader):
    """Scores every answer alike, so that no group has an advantage, and criticises it where `critique` is set."""

    critique: str | None = "Answer with the number alone."

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        return [episode.add_feedback(Feedback("environment", score=1.0, text=self.critique)) for episode in episodes]


@dataclass(frozen=True)
class Nudge(Term):
    """A user's own term: raises every sampled token with strength 2, whatever its score."""

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        rows = find_weighted(student, rollouts, name)
        signal = place_signal(torch.full((len(rows),), 2.0), rollouts, name, rows)
        return Loss(average_weighted(-2 * student.log_probs, rollouts, name), signal=signal)


@dataclass(frozen=True)
class Unspecified(Term):
    """A user's own term that declares no signal."""

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        return Loss(average_weighted(-student.log_probs, rollouts, name))


def fit(folder: Path, terms: dict, **settings):
    """Two steps on fresh answers that all score the same."""
    grader = {"class_path": f"{__name__}.SameScore"}
    settings = {"data__grader": grader, "model__coefficients": {}, "trainer__max_steps": 2} | settings
    done = quick("fit", "-c", config(folder, model__terms=terms, **settings))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def account(folder: Path) -> dict:
    return json.loads((folder / "run" / "accounting.json").read_text())


def transcripts(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "transcripts.jsonl").read_text().splitlines()]


def teacher_advantage(**arguments) -> dict:
    """A policy gradient on the sampled tokens whose advantage the teacher shapes."""
    arguments = {"mask": "sampled", "reward_weight": 1.0} | arguments
    return {"policy": {"class_path": "objectives.TeacherAdvantage", "init_args": arguments}}


def test_a_teacher_s_advantage_counts_where_the_credit_s_is_zero(tmp_path):
    stderr = fit(tmp_path, teacher_advantage())
    assert "trained on nothing" not in stderr and "asks for a teacher" not in stderr
    found = account(tmp_path)
    assert set(found["used"]) == {"prompt: critique"} and "prompt gave no signal" not in found["dropped"]
    records = transcripts(tmp_path)
    assert records and all(record["advantage"] == 0.0 for record in records)
    tokens = [token for record in records for token in record.get("tokens", [])]
    assert tokens and all(token["advantage"] == 0.0 for token in tokens)
    assert any(token["signal/policy"] for token in tokens)


def test_without_a_critique_the_same_term_is_reported_with_its_reason(tmp_path):
    grader = {"class_path": f"{__name__}.SameScore", "init_args": {"critique": None}}
    stderr = fit(tmp_path, teacher_advantage(), data__grader=grader)
    assert "term 'policy' trained on nothing: every advantage is zero" in stderr
    assert "and no teacher read a critique" in stderr
    assert account(tmp_path)["used"] == {} and account(tmp_path)["dropped"]["prompt gave no signal"]


def test_an_anchor_that_every_critique_leaves_idle_says_so(tmp_path):
    terms = {"distill": {"class_path": "objectives.Distill"}, "anchor": {"class_path": "objectives.KLAnchor"}}
    stderr = fit(tmp_path, terms, model__coefficients={})
    assert "term 'anchor' trained on nothing: a teacher read a critique of every prompt" in stderr


def test_the_same_term_learns_from_scores_where_no_teacher_read_anything(tmp_path):
    stderr = fit(tmp_path, teacher_advantage(), data__grader={"class_path": "tests.helpers.probes.EvenBytes"})
    assert stderr.count("term 'policy' asks for a teacher, and no row has a critique") == 1
    assert set(account(tmp_path)["used"]) == {"prompt: score"}


def test_an_own_term_is_in_the_transcripts_and_on_the_page(tmp_path):
    own = {
        "nudge": {"class_path": f"{__name__}.Nudge"},
        "other": {"class_path": f"{__name__}.Unspecified"},
        "policy": {"class_path": "objectives.PolicyGradient"},
    }
    ramp = {"class_path": "objectives.Ramp", "init_args": {"value": 0.5, "hold": 1, "decay": 2}}
    stderr = fit(tmp_path, own, model__coefficients={"nudge": ramp, "other": 0.1})
    assert "term 'nudge' trained on nothing" not in stderr and "term 'policy' trained on nothing" in stderr
    records = [record for record in transcripts(tmp_path) if record.get("tokens")]
    for record in records:
        assert all(token["signal/nudge"] == 2.0 and token["signal/policy"] == 0.0 for token in record["tokens"])
        assert all("signal/other" not in token for token in record["tokens"])
        assert all(token["weight/nudge"] == 1.0 for token in record["tokens"])  # a plain mean over all tokens
        # The nudge alone moves anything, and upwards.
        assert sum(token["after"] - token["logp"] for token in record["tokens"]) > 0
    # One step at the top, then two steps down: 0.5, then 0.5 x 2 / 3.
    steps = {record["step"]: record["coefficients"] for record in records}
    assert steps[1] == {"nudge": 0.5, "other": 0.1, "policy": 1.0}
    assert set(steps) == {1, 2} and steps[2]["nudge"] == pytest.approx(1 / 3)
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    for factor in ("0.5", "0.333333"):
        assert f"Weighted sum = {factor} × nudge + 1 × policy; without a signal per token: other" in page
    assert ">nudge</label>" in page and "nudge +2.00" in page and "weighted sum +1.00" in page
    assert "0.0 ×" not in page
