"""Several hints for one row: the teacher scores the answer under each, and the objective learns from the best."""

import json

import pytest
import torch
import yaml

from fdt.data.batch import Batch
from fdt.data.collate import Collator
from fdt.data.microbatch import split_rows
from fdt.errors import UserError
from fdt.policy.teachers import split_by_hint
from feedback.hints import CritiqueHint, OneOf
from feedback.types import Episode, Feedback, Task, Turn
from objectives import TokenLogProbs
from tests.helpers.runs import config, quick
from tests.helpers.tiny import tokenizer

WORDS = tokenizer()
SEVERAL = OneOf([CritiqueHint(one_per_critique=True)], max_hints=3)


def episode(name: str, response: str, *critiques: str) -> Episode:
    said = tuple(Feedback(score=0.0, text=text) for text in critiques)
    return Episode(name, Task("t", ({"role": "user", "content": "2+2?"},)), (Turn("assistant", response),), said)


@pytest.fixture
def batch() -> Batch:
    rows = [episode("a", "5", "no", "too high"), episode("b", "4"), episode("c", "77", "wrong", "try 4", "lower")]
    made = Collator(WORDS, SEVERAL)(rows, torch.zeros(3))
    assert made is not None
    return made


def scored(batch: Batch) -> TokenLogProbs:
    """Each target token of the teacher's view, with its own number as hidden state."""
    count = int(batch.teacher.counts.sum())
    hidden = torch.arange(count).float()[:, None]
    return TokenLogProbs(hidden, torch.ones(5, 1), torch.zeros(count, dtype=torch.long), torch.arange(count))


def test_each_hint_is_a_row_of_the_teacher(batch):
    assert batch.teacher_rows.tolist() == [0, 0, 2, 2, 2] and batch.hint_index.tolist() == [0, 1, 0, 1, 2]
    texts = [WORDS.decode(row) for row in batch.teacher.tokens]
    assert [text.split("earlier answer: ")[1].split("<|im_end|>")[0] for text in texts] == [
        "no",
        "too high",
        "wrong",
        "try 4",
        "lower",
    ]
    assert batch.rollouts.masks["distilled"].tolist() == [True] * 2 + [False] * 2 + [True] * 3


def test_scores_are_named_by_hint(batch):
    names = {"teacher", "hint_1", "hint_2"}
    found = split_by_hint(scored(batch), batch, names)
    # Targets a row: 2, 2, 3 (answer and end token), so the student's tokens are 0-1, 2-3 and 4-6.
    assert {name: part.index.tolist() for name, part in found.items()} == {
        "teacher": [0, 1, 4, 5, 6],
        "hint_1": [0, 1, 4, 5, 6],
        "hint_2": [4, 5, 6],
    }
    assert found["hint_1"].hidden[:, 0].tolist() == [2, 3, 7, 8, 9]  # the second and the fourth teacher row
    with pytest.raises(UserError, match="DistillBestHint"):
        split_by_hint(scored(batch), batch, {"teacher", "hint_1"})


def test_a_micro_batch_keeps_a_rows_hints_together(batch):
    part = batch.select_rows(torch.tensor([2, 0]))
    assert part.teacher_rows.tolist() == [0, 0, 0, 1, 1] and part.hint_index.tolist() == [0, 1, 2, 0, 1]
    assert batch.select_rows(torch.tensor([1])).teacher is None
    # The teacher reads two hints for row 0 and three for row 2, each at the longest one's length: five are too many.
    budget = 5 * int(batch.teacher.lengths.max())
    assert split_rows(batch, 10**6) == [[0, 1, 2]] and [0, 2] in [
        [row for row in rows if row != 1] for rows in split_rows(batch, budget)
    ]
    assert all({0, 2} - set(rows) for rows in split_rows(batch, budget - 1))


def test_one_hint_that_is_too_long_costs_only_itself():
    row = episode("a", "5", "no", "x" * 500, "lower")
    collator = Collator(WORDS, SEVERAL, max_tokens=200)
    made = collator([row], torch.zeros(1))
    assert made.hint_index.tolist() == [0, 1] and collator.truncated == {"hint too long": 1}


@pytest.mark.slow
def test_a_run_with_everything(tmp_path):
    """Siblings and critiques as candidates, chosen by overlap; two drafts a row, which join their group; a cut hint."""
    terms = {
        "policy": {"class_path": "objectives.PolicyGradient"},
        "distill": {"class_path": "objectives.DistillBestHint", "init_args": {"k": 16, "hints": ["hint_1"]}},
        "off_policy": {"class_path": "objectives.OffPolicy"},
    }
    longer = {"class_path": "tests.helpers.graders.Longer"}
    hints = [
        {"class_path": "feedback.hints.CritiqueHint", "init_args": {"max_tokens": 5}},
        {"class_path": "feedback.hints.SiblingHint", "init_args": {"min_sibling_score": 0.0}},
    ]
    path = config(
        tmp_path,
        data__grader=longer,
        data__hint={"class_path": "feedback.hints.OneOf", "init_args": {"max_hints": 2, "hints": hints}},
        data__rewriter={
            "class_path": "feedback.rewriter.Rewriter",
            "init_args": {"grader": longer, "drafts": 3, "add_to_group": True},
        },
        model__terms=terms,
    )
    done = quick("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "run"
    account = json.loads((run / "accounting.json").read_text())["rewrites"]
    assert account["hint truncated"] > 0 and account["accepted"] > 0
    rows = [json.loads(line) for line in (run / "transcripts.jsonl").read_text().splitlines()]
    joined = [row for row in rows if row["id"].endswith("~rewrite")]
    assert len(joined) == account["accepted"] and all(row["score"] is not None for row in joined)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["rewriter"]["add_to_group"] is True


@pytest.mark.slow
def test_hints_that_nobody_chooses_from_are_refused(tmp_path):
    hint = {
        "class_path": "feedback.hints.OneOf",
        "init_args": {
            "max_hints": 2,
            "hints": [{"class_path": "feedback.hints.CritiqueHint"}, {"class_path": "feedback.hints.ReferenceHint"}],
        },
    }
    done = quick("fit", "-c", config(tmp_path, "replay", data__hint=hint))
    assert done.returncode == 2 and "DistillBestHint" in done.stderr


@pytest.mark.slow
def test_rewrites_cannot_join_recorded_groups(tmp_path):
    grader = {"class_path": "feedback.graders.NumberMatch"}
    rewriter = {"class_path": "feedback.rewriter.Rewriter", "init_args": {"grader": grader, "add_to_group": True}}
    done = quick("fit", "-c", config(tmp_path, "replay", data__rewriter=rewriter))
    assert done.returncode == 2 and "data.rewriter.add_to_group" in done.stderr
