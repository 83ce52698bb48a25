"""How scores compare, where the config leaves that to the file."""

from __future__ import annotations

import math

import pytest

from fdt.rollout.choices import choose_credit
from fdt.rollout.sources import OnPolicy, Replay
from feedback.types import Episode, Feedback, Task


def build(*scores: tuple[str, float]) -> list[Episode]:
    return [
        Episode(id=str(n), task=Task(key=key, messages=()), turns=(), feedback=(Feedback(score=score),))
        for n, (key, score) in enumerate(scores)
    ]


@pytest.mark.parametrize(
    "scores, name",
    [
        ([("a", 1.0), ("a", 0.0), ("b", 0.5), ("b", 1.0)], "GroupRelative"),
        ([("a", 1.0), ("b", 0.5), ("c", 0.0)], "DatasetMean"),
        ([("a", 1.0), ("a", 0.0), ("b", 0.5)], "GroupElseBatch"),
        ([("a", 1.0), ("a", math.nan), ("b", 0.5)], "DatasetMean"),  # an answer without a score is no rival
    ],
)
def test_replay(scores, name: str):
    credit, reason = choose_credit(Replay(), build(*scores))
    assert type(credit).__name__ == name
    assert "prompt" in reason


def test_on_policy():
    assert type(choose_credit(OnPolicy(num_generations=4), [])[0]).__name__ == "GroupRelative"
    assert type(choose_credit(OnPolicy(num_generations=1), [])[0]).__name__ == "DatasetMean"
