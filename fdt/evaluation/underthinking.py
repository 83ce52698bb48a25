"""Underthinking (arXiv 2501.18585 section 2.3): how much of a wrong answer came after a thought that was right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fdt.engines import SwitchPenalty


@dataclass(frozen=True)
class ReasoningTrace:
    """One answer."""

    correct: bool
    """Whether the answer is right."""
    tokens: int
    """Its length."""
    useful: int | None = None
    """Tokens through the end of its first correct thought; None where no thought was correct."""

    @property
    def waste_share(self) -> float:
        """Share of the tokens that came after the first correct thought; 0 where there was none."""
        return 0.0 if self.useful is None or not self.tokens else 1 - self.useful / self.tokens


def underthinking(answers: Sequence[ReasoningTrace]) -> float:
    """Mean waste of the wrong answers, in [0, 1]; NaN where none is wrong."""
    wrong = [answer.waste_share for answer in answers if not answer.correct]
    return sum(wrong) / len(wrong) if wrong else math.nan


def weighted_underthinking(answers: Sequence[ReasoningTrace]) -> float:
    """Mean over all answers, where a right one wastes nothing; NaN for no answers."""
    wasted = [0.0 if answer.correct else answer.waste_share for answer in answers]
    return sum(wasted) / len(wasted) if wasted else math.nan


def split_thoughts(text: str, words: Sequence[str] = SwitchPenalty().words) -> list[str]:
    """A text cut where a sentence begins with one of the words: a cheap stand-in for the paper's judge."""
    start = "|".join(re.escape(word) for word in words)
    parts = []
    begin = 0
    # Blanks are looked at from their first one alone: from each of them, the work would grow with their square.
    for found in re.finditer(rf"(?<!\s)\s*+(?=(?:{start})\b)", text, re.IGNORECASE):
        after_sentence = text[max(0, found.start() - 1) : found.start()] in (".", "!", "?")
        line = found[0].find("\n") + 1
        if after_sentence or line:
            parts.append(text[begin : found.start() + (0 if after_sentence else line)])
            begin = found.end()
    return [part for part in (*parts, text[begin:]) if part.strip()]
