"""Mining: which clusters of n-grams the most correct solutions share (HICRA, arXiv 2509.03646, section on mining).

A cluster's document frequency is the number of distinct solutions that hold at least one of its grams: a phrase that
one solution repeats counts once. The paper leaves the embedder, the clusterer and the number of clusters open.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from feedback.grams.words import extract_ngrams

Cluster = Callable[[list[str]], list[int]]
"""Grams to the number of the cluster of each."""


@dataclass(frozen=True)
class StrategicGram:
    """One strategic gram: its cluster, and the solutions that hold any gram of that cluster, and it itself."""

    gram: str
    cluster: int
    frequency: int
    solutions: int


@dataclass(frozen=True)
class GramCounts:
    """Of each gram: in how many distinct solutions it stands, and how often in all."""

    solutions: Counter[str]
    occurrences: Counter[str]


def count_grams(texts: Iterable[str], lengths: Sequence[int], min_solutions: int) -> GramCounts:
    """Counts the grams of distinct texts; those in fewer than `min_solutions` of them are left out."""
    solutions = Counter[str]()
    occurrences = Counter[str]()
    for text in texts:
        own = Counter(found.gram for found in extract_ngrams(text, lengths))
        occurrences.update(own)
        solutions.update(own.keys())
    kept = {gram: count for gram, count in solutions.items() if count >= min_solutions}
    return GramCounts(Counter(kept), Counter({gram: occurrences[gram] for gram in kept}))


def cluster_singly(grams: list[str]) -> list[int]:
    """Every gram is a cluster of its own."""
    return list(range(len(grams)))


def mine_grams(
    texts: Iterable[str],
    lengths: Sequence[int] = (3, 4, 5),
    top_share: float = 0.2,
    min_solutions: int = 2,
    cluster: Cluster = cluster_singly,
) -> list[StrategicGram]:
    """The grams of the clusters with the highest document frequency, the most frequent clusters first.

    Args:
        texts: correct solutions; equal ones count once.
        lengths: words of a gram.
        top_share: share of the clusters that is kept, rounded up; among equal frequencies those whose grams occur more
            often go first.
        min_solutions: grams of fewer solutions are no candidates: they are most of all grams, and carry no strategy.
        cluster: which grams belong together.
    """
    texts = list(dict.fromkeys(texts))
    found = count_grams(texts, lengths, min_solutions)
    grams = sorted(found.solutions)
    number = dict(zip(grams, cluster(grams), strict=True))
    frequency = count_solutions(texts, lengths, number)
    occurrences = Counter[int]()
    for gram in grams:
        occurrences[number[gram]] += found.occurrences[gram]
    ranked = sorted(frequency, key=lambda place: (-frequency[place], -occurrences[place], place))
    best = {place: rank for rank, place in enumerate(ranked[: math.ceil(top_share * len(ranked))])}
    chosen = sorted((gram for gram in grams if number[gram] in best), key=lambda gram: (best[number[gram]], gram))
    return [StrategicGram(gram, best[number[gram]], frequency[number[gram]], found.solutions[gram]) for gram in chosen]


def count_solutions(texts: Iterable[str], lengths: Sequence[int], number: dict[str, int]) -> Counter[int]:
    """Of each cluster, the solutions that hold at least one of its grams."""
    held = Counter[int]()
    for text in texts:
        held.update({number[found.gram] for found in extract_ngrams(text, lengths) if found.gram in number})
    return held
