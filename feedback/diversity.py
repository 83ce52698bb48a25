"""How diverse a policy's answers are: measures over several answers to one task. Text and counts alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Context

from feedback.graders.extract import extract_boxed, extract_tag
from feedback.graders.match import normalize_text
from feedback.graders.number import find_last_number
from feedback.text_metrics import build_ngrams
from feedback.types import Episode

ORDER = 6
"""Longest run of characters that `compute_chrf` compares."""
THRESHOLD = 60.0
"""Similarity, from 0 to 100, at which two groups of texts still count as one solution (arXiv 2509.21128)."""
LONGEST = 4000
"""Characters of a text that `compute_chrf` reads."""
EXACT = Context(prec=20_000)
NUMBER_ALONE = re.compile(r"\W*+\d[\d.,\s]*+(?:[eE]\d++)?\W*+")
"""One number with nothing but signs around it. Nothing is tried twice: blanks could belong to three of its parts."""


def pass_at_k(samples: int, solved: int, k: int) -> float:
    """Chance that k of the samples, drawn without replacement, hold a solved one: 1 - C(n-c, k) / C(n, k), which is
    unbiased for k fresh samples (arXiv 2107.03374 section 2.1).

    Raises:
        ValueError: fewer samples than k, or no such numbers.
    """
    if not 1 <= k <= samples or not 0 <= solved <= samples:
        raise ValueError(f"pass_at_k: got n={samples}, c={solved}, k={k}; expected 1 <= k <= n and 0 <= c <= n")
    return 1.0 - math.comb(samples - solved, k) / math.comb(samples, k)


def pass_at_k_turns(attempts: Sequence[tuple[bool, int]], k: int, turns: int) -> float:
    """pass@(k,T): `pass_at_k` where an attempt, ``(solved, turns)``, counts as solved within ``turns`` alone."""
    return pass_at_k(len(attempts), sum(solved and took <= turns for solved, took in attempts), k)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams of these texts (arXiv 1510.03055 section 5.2); NaN without any."""
    grams = Counter(gram for text in texts for gram in build_ngrams(text.lower().split(), n))
    return len(grams) / grams.total() if grams else math.nan


def extract_actions(episode: Episode) -> tuple[str, ...]:
    """What the policy did, turn by turn: the tools it called, else its words without case and extra blanks."""
    return tuple(
        " ".join(f"{call['name']}({call['arguments']})" for call in turn.calls) or " ".join(turn.text.lower().split())
        for turn in episode.policy_turns
    )


def compute_unique_share(things: Sequence[object]) -> float:
    """Share of things, such as action sequences, that are left when each is counted once; NaN for none."""
    return len(set(things)) / len(things) if things else math.nan


def extract_final_answer(text: str) -> str | None:
    """The answer that a text comes to, in a form in which equal ones are equal: the last box, the last closed pair of
    the tag `answer`, or the last number; None where it holds none of them."""
    boxed = extract_boxed(text)
    stated = extract_tag(text, "answer") if boxed is None else boxed
    number = find_last_number(text if stated is None else stated)
    if stated is not None and (number is None or NUMBER_ALONE.fullmatch(stated) is None):
        return normalize_text(stated)
    return None if number is None else str(number.normalize(EXACT))


def group_solutions(texts: Sequence[str], final: Callable[[str], str | None] = extract_final_answer) -> list[int]:
    """The number of the solution that each text gives: one for each final answer; texts without one are grouped by
    `compute_chrf`."""
    answers = [final(text) for text in texts]
    known = {answer: n for n, answer in enumerate(dict.fromkeys(a for a in answers if a is not None))}
    rest = iter(cluster_texts([text for text, answer in zip(texts, answers, strict=True) if answer is None]))
    return [len(known) + next(rest) if answer is None else known[answer] for answer in answers]


def cluster_texts(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """The group of each text: average linkage over `compute_chrf` down to ``threshold``, equal texts compared once."""
    kinds = list(dict.fromkeys(texts))
    place = {text: n for n, text in enumerate(kinds)}
    weights = [texts.count(text) for text in kinds]
    groups = cluster_by_linkage([[compute_chrf(one, other) for other in kinds] for one in kinds], threshold, weights)
    return [groups[place[text]] for text in texts]


def cluster_by_linkage(
    similarities: Sequence[Sequence[float]], threshold: float, weights: Sequence[int] | None = None
) -> list[int]:
    """Group of each item under average linkage (UPGMA): the two most similar groups join down to ``threshold``.

    Args:
        similarities: symmetric [n, n], 0 to 100.
        weights: how often each item stands for itself; once where None.
    """
    near = [list(row) for row in similarities]
    members = [[n] for n in range(len(near))]
    weight = list(weights or [1] * len(near))
    while len(members) > 1:
        pairs = [(near[a][b], a, b) for b in range(len(members)) for a in range(b)]
        best, a, b = max(pairs, key=lambda pair: pair[0])
        if best < threshold:
            break
        whole = weight[a] + weight[b]
        merged = [(weight[a] * x + weight[b] * y) / whole for x, y in zip(near[a], near[b], strict=True)]
        near[a] = merged
        for row, value in zip(near, merged, strict=True):
            row[a] = value
        members[a] = members[a] + members[b]
        weight[a] = whole
        for row in near:
            del row[b]
        del near[b], members[b], weight[b]
    groups = {item: n for n, own in enumerate(sorted(members)) for item in own}
    return [groups[n] for n in range(len(groups))]


def compute_chrf(one: str, other: str) -> float:
    """chrF with beta 1, from 0 to 100: precision and recall of runs of 1 to 6 characters without blanks, each the mean
    over those lengths that both texts have, and their harmonic mean (Popović 2015; its beta 2 is not symmetric)."""
    grams = [_count_char_ngrams("".join(text[:LONGEST].split())) for text in (one, other)]
    shared = [(sum((a & b).values()), a.total(), b.total()) for a, b in zip(*grams, strict=True) if a and b]
    if not shared:
        return 100.0 if one.split() == other.split() else 0.0
    precision = sum(same / total for same, total, _ in shared) / len(shared)
    recall = sum(same / total for same, _, total in shared) / len(shared)
    return 200 * precision * recall / (precision + recall) if precision + recall else 0.0


def _count_char_ngrams(text: str) -> list[Counter[str]]:
    return [Counter(text[start : start + n] for start in range(len(text) - n + 1)) for n in range(1, ORDER + 1)]
