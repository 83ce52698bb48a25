"""Intervals over two sources of chance at once: seeds, and the prompts that each seed was measured on."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdt.statistics.intervals import LEVEL, RESAMPLES, SEED, Interval


def compute_nested_interval(values: Sequence[ArrayLike]) -> Interval:
    """Mean over seeds of the means of ``values`` (one array of prompts a seed), resampling seeds and their prompts.

    Seeds are drawn with replacement, then the prompts of each drawn seed: a two-stage bootstrap (Davison and Hinkley
    1997, section 3.8). With few seeds it is rather too narrow; with one it leaves the spread of seeds out.

    Raises:
        ValueError: no seed, or one without prompts or with a value that is not finite.
    """
    seeds = [np.asarray(seed, dtype=np.float64) for seed in values]
    if not seeds or not all(seed.size and np.isfinite(seed).all() for seed in seeds):
        raise ValueError("values: expected at least one seed, each with finite values for at least one prompt")
    return _bootstrap_seeds(
        [seed.mean() for seed in seeds], lambda number, count, rng: _resample_means(seeds[number], count, rng)
    )


def compute_draws_interval(values: Sequence[float], draws: Sequence[ArrayLike]) -> Interval:
    """The same for a statistic that is no mean, such as a calibration error: its value for each seed, and its values
    over resamples of that seed's prompts [R], of which one is drawn wherever the seed is.

    Raises:
        ValueError: no seed, or one without resamples or with a value that is not finite.
    """
    pools = [np.asarray(pool, dtype=np.float64) for pool in draws]
    known = all(pool.size and np.isfinite(pool).all() for pool in [*pools, np.array(values)])
    if not pools or len(pools) != len(values) or not known:
        raise ValueError("draws: expected at least one seed, each with finite values over resamples of its prompts")
    return _bootstrap_seeds(values, lambda number, count, rng: rng.choice(pools[number], count))


def _bootstrap_seeds(
    values: Sequence[float], drawn: Callable[[int, int, np.random.Generator], NDArray[np.float64]]
) -> Interval:
    """Mean of `values` over seeds; `drawn` gives so many values of one seed over resamples of its prompts."""
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
    found = np.empty(chosen.shape)
    for number in range(len(values)):
        found[chosen == number] = drawn(number, int((chosen == number).sum()), rng)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(found.mean(axis=1), [tail, 100 - tail])
    return Interval(float(np.mean(values)), float(low), float(high))


def _resample_means(values: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of ``count`` resamples of ``values`` [n]."""
    # Equal values are interchangeable: how often each kind is drawn is multinomial, and verdicts are of few kinds.
    kinds, sizes = np.unique(values, return_counts=True)
    return rng.multinomial(len(values), sizes / len(values), size=count) @ kinds / len(values)
