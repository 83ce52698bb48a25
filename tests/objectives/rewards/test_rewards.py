"""Rewards: worked numbers of the method sheets, absent scores, refusals."""

import math

import pytest
import torch
from torch import nan, tensor

from objectives import (
    Brier,
    ClippedLog,
    FormatGate,
    GroupRelative,
    Overlong,
    Score,
    SetScore,
    Spherical,
    TurnLimit,
    Weighted,
    compute_empirical_rate,
    measure_collinearity,
    score_set,
)
from tests.helpers.rollouts import rollouts


def rows(lengths=None, **scores):
    """One row per score, all of one task."""
    n = len(next(iter(scores.values())))
    return rollouts(lengths or (1,) * n, scores={name: tensor(value).double() for name, value in scores.items()})


def close(got, expected, abs=6e-5):
    assert got.tolist() == pytest.approx(expected, abs=abs, nan_ok=True)


def test_weighted_sums_and_absent_scores():
    batch = rows(score=[1.0, 0.0, 1.0], style=[0.5, 1.0, nan])
    close(Weighted({"score": 1.0, "style": 0.2})(batch), [1.1, 0.2, nan])
    close(Score("style")(batch), [0.5, 1.0, nan])
    with pytest.raises(ValueError, match=r"got \['score', 'style'\], expected 'tone'"):
        Score("tone")(batch)


def test_a_process_reward_is_mixed_with_the_outcome():
    """ReasonFlux-PRM's mixture (arXiv 2506.18896): 0.75 * 0.7 + 0.25 * 1."""
    close(Weighted({"prm": 0.75, "score": 0.25})(rows(prm=[0.7], score=[1.0])), [0.775])


def test_soft_overlong_penalty():
    lengths = tensor([16384, 18432, 20480, 20481])
    batch = rollouts((1,) * 4, scores={"score": torch.zeros(4)}, lengths=lengths)
    close(Overlong(20480, 4096)(batch), [0, -0.5, -1, -1])


def turn_batch(counts, score):
    step = torch.arange(sum(counts))
    episode = torch.repeat_interleave(torch.arange(len(counts)), tensor(counts))
    return rollouts(counts, turn=step, episode=episode, scores={"score": tensor(score).double()})


def test_turn_penalty():
    close(TurnLimit(10, 40)(turn_batch([9, 10, 25, 40], [0.0] * 4)), [0, 0, -0.5, -1])
    close(TurnLimit(10, 80)(turn_batch([45], [0.0])), [-0.5])
    batch = turn_batch([20, 40, 9, 40], [1.0, 1.0, 0.0, 0.0])
    credit = GroupRelative(reward=TurnLimit(10, 40))
    close(credit.reward(batch), [0.6667, 0, 0, -1])
    close(credit.compute_rows(batch), [1.260, 0.140, 0.140, -1.540], 5e-4)
    close(credit.compute_rows(turn_batch([12, 25, 40], [0.0] * 3)), [1.195, 0.058, -1.253], 5e-4)


def test_brier_reward():
    batch = rows(score=[1.0, 0, 1, 0], confidence=[0.9, 0.9, 0, 0])
    close(Brier()(batch), [0.99, -0.81, 0, 0])
    group = rows(score=[1.0, 1, 0, 0], confidence=[0.9, 0.5, 0.9, 0.1])
    close(Brier()(group), [0.99, 0.75, -0.81, -0.01])
    close(GroupRelative("none", reward=Brier()).compute_turns(group), [0.76, 0.52, -1.04, -0.24])


def test_the_published_form_with_its_format_gate():
    """Half each for format, accuracy and 1 - (c - q)^2, all gated: 1 + R / 2 where valid, else 0."""
    batch = rows(score=[1.0, 0, nan], confidence=[0.9, 0.9, nan], format=[1.0, 1, 0])
    gated = FormatGate(Brier(correctness=0.5, weight=0.5), bonus=1.0)
    close(gated(batch), [1 + 0.99 / 2, 1 - 0.81 / 2, 0])
    close(FormatGate(Score(), invalid=-1.0)(batch), [1, 0, -1])


def test_confidence_must_be_a_chance_or_absent():
    close(Brier()(rows(score=[1.0, 0], confidence=[nan, 0.5])), [nan, -0.25])
    with pytest.raises(ValueError, match=r"confidence'\]: got 90, expected \[0, 1\] or NaN"):
        Brier()(rows(score=[1.0], confidence=[90.0]))


def test_noisy_outcomes_are_scored_against_the_rate():
    batch = rows(score=[1.0, 1, 0, nan], confidence=[0.5, 0.7, 2 / 3, 0.1])
    rate = 2 / 3
    close(compute_empirical_rate(batch.scores["score"], batch.task), [rate] * 4)
    expected = [c - (q - rate) ** 2 - rate * (1 - rate) for c, q in ((1, 0.5), (1, 0.7), (0, 2 / 3))]
    close(Brier(noisy=True)(batch), [*expected, nan])


def test_a_squared_target_is_honest_where_an_absolute_one_is_not():
    """Target half the group's rate 0.6, half the outcome (DCPO, arXiv 2603.09117): squared error is least at 0.6, the
    absolute one at 0.8."""
    q, p = torch.linspace(0, 1, 101).double(), 0.6
    high, low = 0.5 * p + 0.5, 0.5 * p
    squared, absolute = (p * f(q - high) + (1 - p) * f(q - low) for f in (torch.square, torch.abs))
    assert (q[squared.argmin()].item(), q[absolute.argmin()].item()) == pytest.approx((0.6, 0.8))
    stated = [Brier(noisy=True)(rows(score=[1.0, 1, 1, 0, 0], confidence=[value] * 5)).mean() for value in q]
    assert q[torch.stack(stated).argmax()].item() == pytest.approx(0.6)


RULES = [Brier(), Spherical(), ClippedLog()]


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_proper_and_reward_the_likelier_answer(rule):
    p = torch.linspace(0.02, 0.98, 49).double()
    honest = rule.compute_value(p)
    for q in torch.linspace(0.02, 0.98, 25).double():
        stated = rule.correctness * p - rule.weight * (
            p * rule.compute_loss(q, 1 - q) + (1 - p) * rule.compute_loss(1 - q, q)
        )
        assert (stated <= honest + 1e-12).all()
    assert (honest.diff() > 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_the_gap_is_the_slope_of_the_honest_value(rule):
    p = torch.linspace(0.02, 0.98, 49).double().requires_grad_()
    slope = torch.autograd.grad(rule.compute_value(p).sum(), p)[0]
    gap = rule.compute_loss(p, 1 - p) - rule.compute_loss(1 - p, p)
    assert torch.allclose(slope, rule.correctness - rule.weight * gap)
    assert gap.max() <= rule.gap
    low = tensor(1e-9).double()
    assert (rule.compute_loss(low, 1 - low) - rule.compute_loss(1 - low, low)).item() == pytest.approx(rule.gap)


def test_weights_that_break_the_joint_guarantee_are_refused():
    for rule in (Brier, Spherical):
        with pytest.raises(ValueError, match="weight: got 2.0, expected at most correctness / largest gap = 1 / 1"):
            rule(weight=2.0)
    ClippedLog(correctness=4.596)
    with pytest.raises(ValueError, match="4.5 / 4.59512"):
        ClippedLog(correctness=4.5)
    with pytest.raises(ValueError, match="inf"):
        ClippedLog(correctness=1000.0, epsilon=0.0)


def unchecked(rule, **fields):
    broken = object.__new__(rule)
    broken.__dict__.update({"correctness": 1.0, "weight": 1.0} | fields)
    return broken


def test_why_they_are_refused():
    brier = unchecked(Brier, weight=2.0)
    assert brier.compute_value(tensor(0.2)).item() == pytest.approx(-0.12) and brier.compute_value(tensor(0.0)) == 0
    log = unchecked(ClippedLog, epsilon=1e-12)
    p = torch.linspace(1e-6, 1 - 1e-6, 100001).double()
    value = log.compute_value(p)
    assert p[value.argmin()].item() == pytest.approx(0.2689, abs=5e-5)
    assert p[(value < 0).nonzero()[-1, 0]].item() == pytest.approx(0.648, abs=5e-4)


W = tensor([[0.1, 0.9], [0.4, 0.6], [0.5, 0.5], [0.8, 0.2]])


def test_set_scores():
    offers = tensor([[[1.0, 0], [0, 1]], [[1, 0], [0, 0]], [[0.6, 0.6], [0, 0]], [[0, 0], [0, 0]]])
    values = score_set(offers, W)
    close(values, [0.70, 0.45, 0.60, 0])
    close(GroupRelative()(values, torch.zeros(4).long()), [0.980, 0.047, 0.607, -1.634], 5e-4)
    assert torch.equal(score_set(offers.flip(1), W), values)
    uniform = torch.linspace(0, 1, 10001)
    close(score_set(offers[:2], torch.stack([uniform, 1 - uniform], -1)), [0.75, 0.5], 1e-4)


def test_trade_offs_are_shared_in_a_task_and_repeat():
    offers = torch.rand(4, 3, 2).double()
    batch = rollouts((1,) * 4, tasks=[0, 0, 1, 1], set_scores=offers[[0, 0, 1, 0]])
    score = SetScore()(batch)
    assert score[0] == score[1] != score[3] and torch.equal(score, SetScore()(batch))
    assert not torch.equal(score, SetScore(seed=1)(batch))
    weights = SetScore(draws=20000).draw_trade_offs(0, 0, offers)
    assert torch.allclose(weights.sum(-1), torch.ones(20000).double())
    assert weights.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    with pytest.raises(ValueError, match="set_scores: got None"):
        SetScore()(rollouts())


def test_collinearity():
    a = torch.randn(200)
    assert measure_collinearity(torch.stack([a, 2 * a + 1], -1)) == pytest.approx(1, abs=1e-5)
    assert measure_collinearity(torch.stack([a, -a, torch.ones(200)], -1)) == pytest.approx(-1 / 3, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        measure_collinearity(a[:, None])


def test_nothing_is_nan_but_what_is_absent():
    assert not math.isnan(Brier()(rows(score=[1.0], confidence=[1.0])).item())
