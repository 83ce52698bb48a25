"""Traits of an answer that can be read off its text: how much it repeats itself, whether it mentions feedback."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

LENGTH = 4  # words of a phrase whose return is a repetition
# Words by which an answer gives away feedback that its prompt does not mention.
MENTION = re.compile(
    r"(?<!\w)(feedback|critique|criticism|earlier answer|previous answer|(?:was|were) told)(?!\w)", re.IGNORECASE
)
SHARED = 6  # words in a row that answer and critique share and the prompt does not hold


def build_ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of n words, in order."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def compute_repetition(text: str) -> float:
    """Share of a text's 4-word phrases that it has used before, in [0, 1]; 0 where it has fewer than two."""
    phrases = Counter(build_ngrams(text.lower().split(), LENGTH))
    total = phrases.total()
    return 1 - len(phrases) / total if total else 0.0


def has_leak(answer: str, prompt: str, critique: str | None) -> bool:
    """Whether an answer gives away feedback that only the teacher was shown.

    It does when it mentions feedback where its prompt does not, or shares six words in a row with its critique that
    the prompt does not hold. A critique may quote the answer; such a quote counts too, so a level above 0 at the start
    is the base to compare with.
    """
    if MENTION.search(answer) and not MENTION.search(prompt):
        return True
    return bool((_extract_ngrams(answer) & _extract_ngrams(critique or "")) - _extract_ngrams(prompt))


def _extract_ngrams(text: str) -> set[tuple[str, ...]]:
    return set(build_ngrams(re.findall(r"\w+", text.lower()), SHARED))
