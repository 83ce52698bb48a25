"""Does a draft follow its critique? Checks that can be stated, and that say nothing where there is nothing to check."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from feedback.types import Episode

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
GIVEN = re.compile(
    rf"(?<!not )(?:\b(?:is|be|are|equals?|gives|makes)\b|\banswer\b:?|=)\s*\$?({NUMBER})(?![\w.]*\d)",
    re.ASCII | re.IGNORECASE,
)
QUOTED = re.compile(r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`")


class CritiqueCheck(ABC):
    """Compares a draft with the critique that asked for it."""

    @abstractmethod
    def __call__(self, episode: Episode, draft: str) -> bool | None:
        """Whether the draft does what the episode's critique asks; None where it asks nothing that can be checked."""


@dataclass(frozen=True)
class LiteralCheck(CritiqueCheck):
    """Holds a draft to what the critique spells out.

    - A number given as right ("46 + 13 is 59", "= 59", "answer: 59") that the answer lacks: the draft has the last one.
    - Passages of the answer that the critique quotes: not all of them stand in the draft unchanged.
    - Quotes of what neither answer nor prompt says: the draft has at least one of them, whatever its case.
    """

    def __call__(self, episode: Episode, draft: str) -> bool | None:
        """None where the critique has no such number and no quotes."""
        critique, answer = episode.critique or "", episode.response
        prompt = "\n".join(str(message["content"]) for message in episode.task.messages)
        numbers = [
            number for number in GIVEN.findall(critique) if _normalize_number(number) not in _extract_numbers(answer)
        ]
        quotes = [next(filter(None, found)) for found in QUOTED.findall(critique)]
        blamed = [quote for quote in quotes if quote in answer]
        asked = [quote for quote in quotes if quote not in answer and quote not in prompt]
        checks = []
        if numbers:
            checks.append(_normalize_number(numbers[-1]) in _extract_numbers(draft))
        if blamed:
            checks.append(not all(quote in draft for quote in blamed))
        if asked:
            checks.append(any(quote.casefold() in draft.casefold() for quote in asked))
        return all(checks) if checks else None


def _extract_numbers(text: str) -> set[str]:
    return {_normalize_number(number) for number in re.findall(NUMBER, text, re.ASCII)}


def _normalize_number(number: str) -> str:
    """Without what groups digits, and without a fraction of zero."""
    whole, _, fraction = number.replace(",", "").partition(".")
    return f"{whole}.{fraction.rstrip('0')}".rstrip(".")
