"""Calibration against numbers worked by hand, against the definitions, and against what is known of simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdt.statistics import calibration as cal

# Worked by hand. Bins: .15 alone, .65 twice (one right), .95 twice and 1 (two right of three).
Q, C = [0.95, 0.95, 0.65, 0.65, 0.15, 1], [1, 0, 1, 1, 0, 1]
ANSWERS = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=60)


def test_worked_numbers():
    assert cal.ece(Q, C) == pytest.approx(0.29167, abs=5e-6)
    assert cal.brier(Q, C).score == pytest.approx(0.19542, abs=5e-6)
    assert cal.auroc(Q, C) == 0.6875


def test_bins_are_closed_to_the_left():
    found = cal.bin_answers([k / 10 for k in range(11)], [0] * 11)
    assert found.place.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert found.stated[3] == 0.3 and found.stated[6] == 0.6  # not one bin too low


def test_parts_of_the_brier_score_by_hand():
    # 0.8 said five times, four right; 0.4 said five times, three right.
    q, c = [0.8] * 5 + [0.4] * 5, [1, 1, 1, 1, 0] + [1, 1, 1, 0, 0]
    found = cal.brier(q, c)
    assert found.calibration == pytest.approx((0 + 0.2**2) / 2)
    assert found.refinement == pytest.approx((0.8 * 0.2 + 0.6 * 0.4) / 2)
    assert found.score == pytest.approx(found.calibration + found.refinement)
    assert found.within == pytest.approx(0, abs=1e-12)


@given(ANSWERS)
def test_parts_add_up(answers):
    q, c = (np.array(column, float) for column in zip(*answers, strict=True))
    found = cal.brier(q, c)
    assert found.calibration + found.refinement + found.within == pytest.approx(found.score)
    assert min(found.calibration, found.refinement) >= 0
    assert found.score == pytest.approx(np.mean((q - c) ** 2))
    assert 0 <= cal.debiased_ece(q, c) <= cal.ece(q, c) + 1e-12 <= 1 + 1e-12


@given(ANSWERS)
def test_auroc_is_its_definition_over_pairs(answers):
    q, c = zip(*answers, strict=True)
    right, wrong = [a for a, b in answers if b], [a for a, b in answers if not b]
    if not right or not wrong:
        assert math.isnan(cal.auroc(q, c))
        return
    wins = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    assert cal.auroc(q, c) == pytest.approx(wins / len(right) / len(wrong))


def test_a_constant_confidence_ranks_nothing():
    assert cal.auroc([0.9] * 4, [1, 0, 1, 0]) == 0.5
    assert cal.auroc([0.9, 0.1], [1, 0]) == 1


def test_a_lone_answer_by_hand():
    # Gap 0.5, standard error sqrt(0.25) = 0.5, so the true gap is estimated as 0: E|N(0, 0.5²)| = 0.5 sqrt(2/π).
    assert cal.debiased_ece([0.5], [0]) == pytest.approx(0.5 - 0.5 * math.sqrt(2 / math.pi))
    # Gap 0.8, error sqrt(0.16) = 0.4, true gap sqrt(0.48) = 0.6928, ratio sqrt(3).
    folded = 0.4 * math.sqrt(2 / math.pi) * math.exp(-1.5) + math.sqrt(0.48) * math.erf(math.sqrt(1.5))
    assert cal.debiased_ece([0.8], [0]) == pytest.approx(0.8 - (folded - math.sqrt(0.48)))


@pytest.mark.parametrize("truth", [0.0, 0.2])
def test_what_sampling_adds_goes_and_the_true_error_stays(truth):
    rng = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(200):
        q = rng.integers(4, 8, 100) / 10 + 0.05
        c = rng.random(100) < q - truth
        plain.append(cal.ece(q, c))
        debiased.append(cal.debiased_ece(q, c))
    assert np.mean(debiased) == pytest.approx(truth, abs=0.03)
    assert truth or np.mean(debiased) < 0.4 * np.mean(plain)


def test_intervals_hold_the_value_and_shrink():
    rng = np.random.default_rng(1)
    q = rng.random(400)
    c = rng.random(400) < q
    widths = []
    for n in (100, 400):
        found = cal.bootstrap_measure(cal.auroc, q[:n], c[:n])
        assert found.low < found.mean == cal.auroc(q[:n], c[:n]) < found.high
        widths.append(found.high - found.low)
    assert widths[1] < 0.7 * widths[0]
    alone = cal.bootstrap_measure(cal.ece, [0.5], [1])
    assert alone.mean == 0.5 and not alone.has_bounds


@pytest.mark.parametrize(
    ("q", "word"),
    [
        ([0.9] * 19 + [0.1], "95 % of the answers state 0.90"),
        ([0.90, 0.93, 0.96, 0.92, 0.95], "hardly differ"),
        ([0.1, 0.5, 0.9, 0.7], None),
        ([0.9], None),
    ],
)
def test_collapse(q, word):
    found = cal.detect_collapse(q)
    assert found is None if word is None else word in found


@pytest.mark.parametrize(("q", "c"), [([], []), ([0.5], [0, 1]), ([1.5], [1]), ([math.nan], [1]), ([0.5], [0.5])])
def test_what_is_no_confidence_is_refused(q, c):
    with pytest.raises(ValueError, match="got"):
        cal.ece(q, c)
