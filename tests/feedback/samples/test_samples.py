"""The bundled files are what their README says."""

import importlib
import json
import math
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from feedback.graders import NumberMatch
from feedback.readers import read, read_tasks
from feedback.types import Episode, Turn, collect_tasks
from tests.helpers.paths import ROOT

SAMPLES = Path(str(files("feedback") / "samples"))


@pytest.fixture
def script(monkeypatch):
    """The script that recorded the samples."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("record_sums")


def terms(task):
    return tuple(sorted(int(term) for term in task.meta["expression"].split(" + ")))


def test_held_out_sums_are_no_training_sums_in_either_order():
    train, heldout = collect_tasks(read(SAMPLES / "sums.jsonl")), read_tasks(SAMPLES / "sums_heldout.jsonl")
    assert (len(train), len(heldout)) == (64, 256)
    assert len({terms(task) for task in train + heldout}) == 64 + 256
    for task in train + heldout:
        assert sum(terms(task)) == int(task.reference) < 60 and min(terms(task)) > 0
        assert task.messages[0]["content"] == f"What is {task.meta['expression']}? Reply with the number only."


def test_scores_and_critiques_are_the_graders():
    episodes = read(SAMPLES / "sums.jsonl")
    assert len(episodes) == 256 and set(Counter(e.task.key for e in episodes).values()) == {4}
    bare = [Episode(e.id, e.task, e.turns) for e in episodes]
    revealing, terse = NumberMatch()(bare), NumberMatch(reveal=False)(bare)
    for recorded, full, brief in zip(episodes, revealing, terse, strict=True):
        assert (recorded.score, recorded.critique) == (full.score, full.critique)
        assert recorded.task.meta.get("critique_terse") == brief.critique
        assert recorded.feedback[0].source == "environment" and not math.isnan(recorded.score)
        assert (recorded.critique is None) == (recorded.score == 1)


def test_the_generators_own_scorer_agrees(script):
    gym = pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (extra `gym`)")
    from feedback.graders.number import find_last_number

    rows = [json.loads(line) for line in (SAMPLES / "sums.jsonl").read_text().splitlines()]
    script.confirm_scores(rows, {row["task"]: {"answer": row["reference"]} for row in rows})
    with pytest.raises(ValueError, match="expected 1.0 as reasoning-gym gives"):
        script.confirm_scores(
            [rows[0] | {"response": rows[0]["reference"]}], {rows[0]["task"]: {"answer": rows[0]["reference"]}}
        )
    data = gym.create_dataset("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=2, seed=20, size=20000)
    for row in rows[:20]:
        assert data[row["index"]]["question"] == row["question"] and data[row["index"]]["answer"] == row["reference"]
    made = script.generate_problems(20, 8)
    assert len({terms(task) for _, task in made}) == 8 and find_last_number(made[0][1].reference) is not None


def test_graded_rows_are_read_back(script, tmp_path):
    from feedback.writers import write_rows

    task = read_tasks(SAMPLES / "sums_heldout.jsonl")[0]
    rows = script.grade_answers([task], [(task.reference, True), ("none", False)])
    write_rows(tmp_path / "f.jsonl", rows)
    right, wrong = read(tmp_path / "f.jsonl")
    assert (right.score, wrong.score, right.critique) == (1, 0, None)
    assert wrong.turns == (Turn("assistant", "none"),) and wrong.finished is False
