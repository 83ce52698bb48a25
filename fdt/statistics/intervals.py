"""Intervals for what a run claims: percentile bootstrap (Efron and Tibshirani 1993, ch. 13) over held-out prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
BLOCK = 1 << 22
"""Resamples are drawn in blocks of at most this many indices, so that memory stays flat for long evaluations."""


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % interval, all three in the unit of the values that went in.

    `low` and `high` are NaN where one prompt is all there is: a single value has no spread.
    """

    mean: float
    low: float
    high: float

    @property
    def clear_of_zero(self) -> bool:
        """Whether zero lies outside the interval; False for an unknown interval."""
        return self.low > 0 or self.high < 0

    @property
    def has_bounds(self) -> bool:
        """Whether there were enough values for an interval."""
        return not (isnan(self.low) or isnan(self.high))


def compute_mean_interval(values: ArrayLike) -> Interval:
    """Mean of `values` [n] (any unit) and its bootstrap interval over the n prompts, in the same unit.

    Where every value is equal the interval has no width: the percentile bootstrap cannot see what it never drew.

    Raises:
        ValueError: no values, more than one axis, or a value that is NaN or infinite.
    """
    return _bootstrap(lambda v: v.mean(axis=-1), _check_values("values", values))


def compute_paired_difference(before: ArrayLike, after: ArrayLike) -> Interval:
    """Mean of ``after - before`` ([n] each, same prompts in the same order, same unit) with its paired interval.

    Raises:
        ValueError: as `compute_mean_interval`, or the two differ in length.
    """
    before = _check_values("before", before)
    after = _check_values("after", after)
    _check_same_length(before=before, after=after)
    return _bootstrap(lambda v: v.mean(axis=-1), after - before)


def compute_ratio_interval(numerator: ArrayLike, denominator: ArrayLike) -> Interval:
    """``sum(numerator) / sum(denominator)`` ([n] each) with an interval over the n questions.

    For a negative log-likelihood per token: numerators in nats, denominators in tokens, result in nats per token.

    Raises:
        ValueError: as `compute_paired_difference`, or a denominator that is not positive.
    """
    numerator = _check_values("numerator", numerator)
    denominator = _check_positive("denominator", denominator)
    _check_same_length(numerator=numerator, denominator=denominator)
    return _bootstrap(lambda n, d: n.sum(axis=-1) / d.sum(axis=-1), numerator, denominator)


def compute_paired_ratio_difference(
    num_before: ArrayLike, den_before: ArrayLike, num_after: ArrayLike, den_after: ArrayLike
) -> Interval:
    """``sum(num_after) / sum(den_after) - sum(num_before) / sum(den_before)``, [n] each, resampling questions.

    A question drawn brings its numerators and denominators with it, before and after. Units as in
    `compute_ratio_interval`.

    Raises:
        ValueError: as `compute_ratio_interval`.
    """
    arrays = {
        "num_before": _check_values("num_before", num_before),
        "den_before": _check_positive("den_before", den_before),
        "num_after": _check_values("num_after", num_after),
        "den_after": _check_positive("den_after", den_after),
    }
    _check_same_length(**arrays)
    return _bootstrap(_subtract_ratios, *arrays.values())


def compute_share_difference(
    hits_before: ArrayLike, tries_before: ArrayLike, hits_after: ArrayLike, tries_after: ArrayLike
) -> Interval:
    """``sum(hits_after) / sum(tries_after) - sum(hits_before) / sum(tries_before)``, [n] counts each, resampling units.

    Unlike in `compute_paired_ratio_difference` a unit may have no tries; where all of them lie in few units the
    interval is NaN.

    Raises:
        ValueError: as `compute_mean_interval`, the lengths differ, a count is negative, or there are no tries at all.
    """
    arrays = {
        "hits_before": _check_counts("hits_before", hits_before),
        "tries_before": _check_counts("tries_before", tries_before),
        "hits_after": _check_counts("hits_after", hits_after),
        "tries_after": _check_counts("tries_after", tries_after),
    }
    _check_same_length(**arrays)
    for name in ("tries_before", "tries_after"):
        if not arrays[name].sum():
            raise ValueError(f"{name}: got no tries, expected at least one")
    with np.errstate(invalid="ignore"):
        return _bootstrap(_subtract_ratios, *arrays.values())


def _subtract_ratios(
    num_before: NDArray, den_before: NDArray, num_after: NDArray, den_after: NDArray
) -> NDArray[np.float64]:
    return num_after.sum(axis=-1) / den_after.sum(axis=-1) - num_before.sum(axis=-1) / den_before.sum(axis=-1)


def _bootstrap(statistic: Callable[..., NDArray[np.float64]], *arrays: NDArray[np.float64]) -> Interval:
    """`statistic` maps arrays [..., n] to [...]; rows are drawn with replacement, the same draw for every array."""
    count = len(arrays[0])
    value = float(statistic(*arrays))
    if count == 1:
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(SEED)
    block = max(1, BLOCK // count)
    draws = []
    for start in range(0, RESAMPLES, block):
        index = rng.integers(0, count, size=(min(block, RESAMPLES - start), count))
        draws.append(statistic(*(array[index] for array in arrays)))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(np.concatenate(draws), [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def _check_values(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name}: got shape {array.shape}, expected [n] with n of at least 1")
    if not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(
            f"{name}[{at}]: got {array[at]}, expected finite numbers. "
            "Leave out prompts without a score, before and after alike."
        )
    return array


def _check_positive(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _check_values(name, values)
    if (array <= 0).any():
        at = int(np.flatnonzero(array <= 0)[0])
        raise ValueError(
            f"{name}[{at}]: got {array[at]}, expected a positive count. Leave out questions without tokens."
        )
    return array


def _check_counts(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _check_values(name, values)
    if (array < 0).any():
        raise ValueError(f"{name}: got {array.min()}, expected counts of at least 0")
    return array


def _check_same_length(**arrays: NDArray[np.float64]) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"got lengths {lengths}, expected one value per prompt in each, in the same order")
