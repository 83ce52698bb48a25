"""The learning rate over the steps, and the share of scored answers that it may follow."""

import math

import pytest
import torch

from fdt.policy.optimizers import ScoreShare, build_schedule
from objectives import Rollouts


def rates(total: float, warmup: int = 0, scored: ScoreShare | None = None) -> list[float]:
    """The rate of each of ten steps, as a share of the highest."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, warmup, total, scored)
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def counted(scored: int, seen: int) -> ScoreShare:
    share = ScoreShare()
    share.scored, share.seen = scored, seen
    return share


def step(scores: list[float], **masks: list[bool]) -> Rollouts:
    """Answers of one token."""
    rows = torch.arange(len(scores))
    given = {name: torch.tensor(value) for name, value in masks.items()}
    given = {"sampled": torch.ones(len(rows), dtype=torch.bool), "distilled": torch.zeros(len(rows)).bool()} | given
    return Rollouts(torch.zeros(len(rows)), rows, rows, rows, given, scores={"score": torch.tensor(scores)})


def test_constant_and_linear_rates_and_the_rise_before():
    assert rates(math.inf) == [1.0] * 10
    assert rates(10) == pytest.approx([1 - step / 10 for step in range(10)])
    assert rates(math.inf, warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_fewer_answers_are_scored_the_longer_the_rate_is_held():
    assert rates(10, scored=counted(8, 8)) == pytest.approx(rates(10)), "all scored: it falls from the first step"
    none = rates(10, scored=counted(0, 8))
    assert none[:6] == [1.0] * 6 and none[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2]), "none: held for half"
    half = rates(10, scored=counted(4, 8))
    assert half[:3] == [1.0] * 3 and half[5] == pytest.approx(0.5 / 0.75)
    assert rates(10, scored=ScoreShare(is_read=False)) == rates(10)


def test_answers_are_counted_once_and_those_of_others_or_of_the_memory_never():
    share = ScoreShare()
    assert share.value == 1.0
    nan = math.nan
    share.add(step([1.0, nan, 0.0, nan]), "cpu")
    assert (share.seen, share.scored) == (4, 2)
    first, second, third = ([place == row for place in range(4)] for row in range(3))
    share.add(step([1.0, 1.0, 1.0, nan], recalled=first, off_policy=second, imitated=third), "cpu")
    assert (share.seen, share.scored) == (5, 2)
    share.add(step([nan], sampled=[False], distilled=[False]), "cpu")
    assert (share.seen, share.scored, share.value) == (6, 2, 1 / 3), "one from which nothing is learned counts too"


def test_the_counts_go_through_a_checkpoint():
    checkpoint: dict = {}
    counted(3, 4).save(checkpoint)
    share = ScoreShare()
    share.load(checkpoint)
    assert (share.scored, share.seen) == (3, 4)
    share.load({})
    assert share.value == 1.0, "an older one has none"
    unread = ScoreShare(is_read=False)
    unread.save(other := {})
    unread.load(checkpoint)
    assert other == {} and unread.value == 1.0, "a run that goes on with another schedule follows it"


def test_rows_that_only_keep_a_rank_in_step_are_no_answers():
    share = ScoreShare()
    share.add(step([1.0, math.nan]), "cpu")
    share.add(step([math.nan]), "cpu", stands_in=True)
    assert (share.seen, share.scored) == (2, 1)
