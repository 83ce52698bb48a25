"""Intervals over two sources of chance at once: seeds, and the prompts that each seed was measured on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdt.statistics import LEVEL, RESAMPLES, SEED, Interval


def nested_interval(values: Sequence[ArrayLike]) -> Interval:
    """Mean over seeds of the means of ``values`` (one array of prompts a seed), resampling seeds and prompts within them.

    Seeds are drawn with replacement, then the prompts of each drawn seed: a two-stage bootstrap (Davison and Hinkley
    1997, section 3.8). With few seeds it is rather too narrow; with one it is silent about seeds.

    Raises:
        ValueError: no seed, or one without prompts or with a value that is not finite.
    """
    seeds = [np.asarray(seed, dtype=np.float64) for seed in values]
    if not seeds or not all(seed.size and np.isfinite(seed).all() for seed in seeds):
        raise ValueError("values: expected at least one seed, each with finite values for at least one prompt")
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(seeds), size=(RESAMPLES, len(seeds)))
    draws = np.empty(drawn.shape)
    for number, seed in enumerate(seeds):
        draws[drawn == number] = _means(seed, int((drawn == number).sum()), rng)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws.mean(axis=1), [tail, 100 - tail])
    return Interval(float(np.mean([seed.mean() for seed in seeds])), float(low), float(high))


def _means(values: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of ``count`` resamples of ``values`` [n]."""
    # Nobody tells equal values apart: how often each kind is drawn is multinomial, and verdicts are of few kinds.
    kinds, sizes = np.unique(values, return_counts=True)
    return rng.multinomial(len(values), sizes / len(values), size=count) @ kinds / len(values)
