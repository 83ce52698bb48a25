"""Bootstrap intervals against numbers worked by hand."""

import numpy as np
import pytest

from fdt.statistics import intervals as statistics
from fdt.statistics.intervals import (
    Interval,
    compute_mean_interval,
    compute_paired_difference,
    compute_paired_ratio_difference,
    compute_ratio_interval,
)


def test_interval_of_a_constant_difference_is_the_constant():
    before = np.array([0.0, 0.25, 0.5, 1.0])
    assert compute_paired_difference(before, before + 0.25) == Interval(0.25, 0.25, 0.25)


def test_two_values_are_drawn_as_a_coin_is():
    # Means of two draws from {0, 1} are 0, 1/2, 1 with odds 1:2:1, so the 2.5 % points are the ends.
    assert compute_mean_interval([0, 1]) == Interval(0.5, 0.0, 1.0)


def test_interval_of_a_rate_is_near_the_normal_one():
    # 60 of 200: standard error sqrt(.3 * .7 / 200) = 0.0324, so 0.3 -/+ 1.96 * 0.0324 = 0.236 and 0.364.
    interval = compute_mean_interval([1] * 60 + [0] * 140)
    assert interval.mean == pytest.approx(0.3)
    assert (interval.low, interval.high) == pytest.approx((0.236, 0.364), abs=0.006)


def test_pairing_removes_what_the_prompts_share():
    rng = np.random.default_rng(1)
    hard = rng.normal(size=300)
    after = hard + 0.1 + 0.01 * rng.normal(size=300)
    assert compute_paired_difference(hard, after).clear_of_zero
    alone = compute_mean_interval(after)
    assert alone.high - alone.low > 10 * (
        compute_paired_difference(hard, after).high - compute_paired_difference(hard, after).low
    )


def test_same_input_gives_the_same_interval_and_order_of_prompts_does_not_move_the_mean():
    values = np.random.default_rng(2).random(50)
    assert compute_mean_interval(values) == compute_mean_interval(values)
    assert compute_mean_interval(values[::-1]).mean == pytest.approx(compute_mean_interval(values).mean)


def test_ratio_weighs_questions_by_their_tokens():
    # 10 nats over 2 tokens and 8 nats over 16: 18 / 18 = 1 nat a token, not the mean of 5 and 0.5.
    assert compute_ratio_interval([10, 8], [2, 16]).mean == pytest.approx(1.0)
    assert (compute_ratio_interval([10, 8], [2, 16]).low, compute_ratio_interval([10, 8], [2, 16]).high) == (0.5, 5.0)


def test_paired_ratio_difference_of_half_the_nats():
    nats, tokens = np.array([4.0, 8.0, 2.0]), np.array([2.0, 4.0, 1.0])
    assert compute_paired_ratio_difference(nats, tokens, nats / 2, tokens) == Interval(-1.0, -1.0, -1.0)
    # 14 nats over 7 tokens before; 14 nats over 14 tokens after.
    assert compute_paired_ratio_difference(nats, tokens, nats, 2 * tokens).mean == pytest.approx(-1.0)


def test_equal_denominators_make_the_ratio_a_mean():
    before, after = np.random.default_rng(3).random((2, 40))
    ones = np.ones(40)
    assert compute_paired_ratio_difference(before, ones, after, ones).low == pytest.approx(
        compute_paired_difference(before, after).low
    )


def test_blocks_change_memory_and_not_the_result(monkeypatch):
    values = np.random.default_rng(4).random(30)
    whole = compute_mean_interval(values)
    monkeypatch.setattr(statistics, "BLOCK", 30 * 7)
    assert compute_mean_interval(values) == whole


def test_one_prompt_has_no_interval():
    interval = compute_mean_interval([0.7])
    assert interval.mean == 0.7
    assert not interval.has_bounds
    assert not interval.clear_of_zero


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: compute_mean_interval([0.1, float("nan")]), r"values\[1\]: got nan"),
        (lambda: compute_paired_difference([0.1, 0.2], [0.3, float("inf")]), r"after\[1\]: got inf"),
        (lambda: compute_mean_interval([]), r"got shape \(0,\)"),
        (lambda: compute_mean_interval([[0.1]]), r"got shape \(1, 1\)"),
        (lambda: compute_paired_difference([0.1], [0.1, 0.2]), "before 1, after 2"),
        (lambda: compute_ratio_interval([1.0, 1.0], [3, 0]), r"denominator\[1\]: got 0.0, expected a positive count"),
    ],
)
def test_bad_input_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()
