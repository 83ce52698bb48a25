"""How far annotators agree about the same responses: percent, and Krippendorff's alpha with the interval distance.

Alpha rather than Cohen's kappa: it takes any number of annotators, scores that are missing, and it counts a 4 against a
5 as nearer than a 1 against a 5 (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sections B to D).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement over the responses that two annotators or more have scored."""

    responses: int
    scores: int
    annotators: int
    percent: float
    """Share of pairs of scores of one response that are equal, in [0, 100]."""
    alpha: float
    """1 = all equal, 0 = as by chance, below 0 = systematic disagreement; NaN where all scores are one value."""


def compute_agreement(units: Ids, annotators: Ids, values: Values) -> Agreement | None:
    """Agreement of scores; None where no unit was scored by two annotators.

    Args:
        units: what was scored, ``[n]``.
        annotators: who scored it, ``[n]``; of several scores of one unit by one annotator the first counts.
        values: the scores, ``[n]``, finite.
    """
    units, annotators, values = _keep_first(units, annotators, values)
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    shared = counts[place] > 1
    if not shared.any():
        return None
    units = units[shared]
    annotators = annotators[shared]
    values = values[shared]
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    return Agreement(
        len(counts),
        len(values),
        len(np.unique(annotators)),
        100 * _compute_equal_share(place, counts, values),
        interval_alpha(place, counts, values),
    )


def interval_alpha(place: Ids, counts: Ids, values: Values) -> float:
    """Krippendorff's alpha with distance (a − b)², over units of two scores or more.

    Args:
        place: the unit of each score, ``[n]``, from 0 to u − 1.
        counts: scores of each unit, ``[u]``, all above 1.
        values: the scores, ``[n]``.
    """
    values = values - values.mean()  # distances stay, and sums of squares keep their digits
    total = np.bincount(place, values)
    squares = np.bincount(place, values**2)
    # The sum of (a − b)² over ordered pairs of m numbers is 2 (m Σ a² − (Σ a)²).
    observed = (2 * (counts * squares - total**2) / (counts - 1)).sum() / len(values)
    expected = 2 * (len(values) * squares.sum() - total.sum() ** 2) / (len(values) * (len(values) - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _keep_first(units: Ids, annotators: Ids, values: Values) -> tuple[Ids, Ids, Values]:
    order = np.lexsort((annotators, units))  # stable: of equal pairs the first stays first
    units = units[order]
    annotators = annotators[order]
    values = values[order]
    first = np.ones(len(units), dtype=bool)
    first[1:] = (units[1:] != units[:-1]) | (annotators[1:] != annotators[:-1])
    return units[first], annotators[first], values[first]


def _compute_equal_share(place: Ids, counts: Ids, values: Values) -> float:
    order = np.lexsort((values, place))
    place = place[order]
    values = values[order]
    starts = np.flatnonzero(np.r_[True, (place[1:] != place[:-1]) | (values[1:] != values[:-1])])
    runs = np.diff(np.r_[starts, len(values)])
    return float((runs * (runs - 1)).sum() / (counts * (counts - 1)).sum())
