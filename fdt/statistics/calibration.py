"""Whether stated confidences can be believed: calibration error, Brier score and its parts, ranking, collapse.

Confidences q lie in [0, 1], outcomes c are 0 or 1, both ``[n]``. Bins are ten of equal width, closed to the left, the
last one closed to both sides (RLCR, arXiv 2507.16806, evaluates so).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, exp, isfinite, nan, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdt.statistics.intervals import Interval

BINS = 10
RESAMPLES = 1000
"""For numbers that cannot be computed for many resamples at once."""
EXACT_FROM = 5
"""Answers a distinct confidence, on average, from which the confidences themselves are the groups."""
ONE_VALUE = 0.9
"""Collapse: this share of the answers states the same confidence."""
NO_SPREAD = 0.05
"""Collapse: confidences have a smaller standard deviation."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """The bins that hold an answer: how many [k], mean confidence [k], share right [k], and each answer's place [n]."""

    counts: Values
    stated: Values
    right: Values
    place: NDArray[np.int64]

    @property
    def gaps(self) -> Values:
        """Stated minus right, [k]: above 0 the policy is too sure."""
        return self.stated - self.right


@dataclass(frozen=True)
class Brier:
    """The Brier score and its parts (Murphy 1973): ``score = calibration + refinement + within``."""

    score: float
    calibration: float
    """Mean squared gap between stated confidence and share right of a group; 0 is perfect."""
    refinement: float
    """Mean variance of the outcome inside a group: what sorting answers into these groups leaves unsaid."""
    within: float
    """What grouping itself changes; 0 where each distinct confidence is a group of its own."""


def bin_answers(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Bins:
    """Sorts answers into `bins` bins of equal width.

    Raises:
        ValueError: no answers, two lengths, a confidence outside [0, 1] or an outcome that is neither 0 nor 1.
    """
    q, c = _check_pairs(confidence, correct)
    # 0.6 * 10 may fall a hair below 6, and 0.7 * 10 a hair above 7: the nudge is far below any stated digit.
    return _group_answers(np.minimum((q * bins + 1e-9).astype(int), bins - 1), q, c)


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean |stated − right| over bins, weighted by answers (Naeini et al. 2015).

    Raises:
        ValueError: as `bin_answers`.
    """
    found = bin_answers(confidence, correct, bins)
    return float((found.counts * np.abs(found.gaps)).sum() / found.counts.sum())


def debiased_ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """`ece` less what sampling alone adds to it, at least 0.

    The share right of a small bin strays from its true value, and |·| only ever adds that up. Of a bin's gap d with
    standard error s, the true gap is estimated as t = sqrt(max(0, d² − s²)), Kumar et al.'s debiased square
    (arXiv 1909.10155, section 5), and what sampling adds as E|N(t, s²)| − t, the mean of a folded normal less its
    centre. s² = r(1 − r) / (n − 1), and for a single answer q(1 − q). Over 100 well calibrated answers this takes away
    two thirds of what `ece` shows; of a true error near s it takes away a little too much.

    Raises:
        ValueError: as `bin_answers`.
    """
    found = bin_answers(confidence, correct, bins)
    alone = found.counts == 1
    variance = np.where(alone, found.stated * (1 - found.stated), found.right * (1 - found.right))
    variance = variance / np.where(alone, 1, found.counts - 1)
    true = np.sqrt(np.maximum(0, found.gaps**2 - variance))
    added = [
        _compute_folded_mean(gap, sqrt(square)) - gap
        for gap, square in zip(true.tolist(), variance.tolist(), strict=True)
    ]
    return max(0.0, ece(confidence, correct, bins) - float((found.counts * added).sum() / found.counts.sum()))


def brier(confidence: ArrayLike, correct: ArrayLike) -> Brier:
    """The Brier score, mean (q − c)², with its parts.

    Groups are the distinct confidences where a handful of answers share each, which makes the split exact; else the ten
    bins, each answer standing for its bin's mean confidence.

    Raises:
        ValueError: as `bin_answers`.
    """
    q, c = _check_pairs(confidence, correct)
    values, place = np.unique(q, return_inverse=True)
    groups = _group_answers(place, q, c) if len(q) >= EXACT_FROM * len(values) else bin_answers(q, c)
    share = groups.counts / groups.counts.sum()
    calibration = float((share * groups.gaps**2).sum())
    refinement = float((share * groups.right * (1 - groups.right)).sum())
    score = float(((q - c) ** 2).mean())
    return Brier(score, calibration, refinement, score - calibration - refinement)


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Chance that a right answer states more than a wrong one, ties counting half; NaN where all or none are right.

    Raises:
        ValueError: as `bin_answers`.
    """
    q, c = _check_pairs(confidence, correct)
    right = int(c.sum())
    if right in (0, len(c)):
        return nan
    _, place, counts = np.unique(q, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal values, the mean of their ranks from 1
    return float((ranks[place][c == 1].sum() - right * (right + 1) / 2) / (right * (len(c) - right)))


def bootstrap_measure(
    measure: Callable[[Values, Values], float], confidence: ArrayLike, correct: ArrayLike
) -> Interval:
    """A measure with its 95 % percentile bootstrap over answers; resamples where it is NaN are left out.

    Raises:
        ValueError: as `bin_answers`.
    """
    q, c = _check_pairs(confidence, correct)
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(q), len(q)) for _ in range(RESAMPLES))
    found = [value for draw in draws if isfinite(value := measure(q[draw], c[draw]))]
    low, high = np.percentile(found, [2.5, 97.5]) if len(q) > 1 and found else (nan, nan)
    return Interval(measure(q, c), float(low), float(high))


def detect_collapse(confidence: ArrayLike) -> str | None:
    """What is wrong where confidences hardly differ any more, else None."""
    q = np.asarray(confidence, float)
    if len(q) < 2:
        return None
    values, counts = np.unique(np.round(q, 2), return_counts=True)
    if counts.max() >= ONE_VALUE * len(q):
        return f"{100 * counts.max() / len(q):.0f} % of the answers state {values[counts.argmax()]:.2f}"
    if q.std() < NO_SPREAD:
        return f"confidences hardly differ: their standard deviation is {q.std():.3f}"
    return None


def _group_answers(place: NDArray[np.int64], q: Values, c: Values) -> Bins:
    _, place = np.unique(place, return_inverse=True)
    counts = np.bincount(place).astype(float)
    return Bins(counts, np.bincount(place, q) / counts, np.bincount(place, c) / counts, place)


def _compute_folded_mean(mean: float, deviation: float) -> float:
    """E|N(mean, deviation²)|."""
    if deviation == 0:
        return abs(mean)
    ratio = mean / deviation
    return deviation * sqrt(2 / pi) * exp(-(ratio**2) / 2) + mean * erf(ratio / sqrt(2))


def _check_pairs(confidence: ArrayLike, correct: ArrayLike) -> tuple[Values, Values]:
    q = np.asarray(confidence, float)
    c = np.asarray(correct, float)
    if q.ndim != 1 or q.shape != c.shape or not q.size:
        raise ValueError(f"got confidences {q.shape} and outcomes {c.shape}, expected [n] each with n of at least 1")
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError("confidence: got a value outside [0, 1] or none, expected numbers from 0 to 1")
    if not ((c == 0) | (c == 1)).all():
        raise ValueError("correct: got a value that is neither 0 nor 1")
    return q, c
