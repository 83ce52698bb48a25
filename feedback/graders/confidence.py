"""Reads the confidence that an answer states, for rewards of calibration (RLCR, arXiv 2507.16806)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from feedback.graders.base import RuleGrader, update_format_score
from feedback.graders.extract import CONFIDENCE_PATTERN, extract_tag
from feedback.types import Episode, Feedback

NUMBER = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*(%?)", re.ASCII)


@dataclass(frozen=True)
class StatedConfidence(RuleGrader):
    """Reads the stated confidence as the score "confidence", and scores the format 1 or 0.

    The rule: the last closed `<confidence>` tag counts; without one, the last `Confidence: 0.7` or `Confidence: 70%`
    (also `confidence level = 0.7`). The value is one number, taken as it is or, with a percent sign, in hundredths. A
    value outside [0, 1] or none at all leaves the score NaN and makes the format 0. `Episode.score` leaves both out:
    they say how an answer is stated, not how good it is.
    """

    reveal: bool = True
    """True: a confidence that is far from what verifiers before this one found is pointed out, and with it whether the
    answer is right."""

    def grade(self, episode: Episode) -> Episode:
        """Adds a `Feedback` named "confidence" and one named "format"."""
        stated, fault = parse_confidence(episode.response)
        text = self._describe_gap(stated, episode.score) if self.reveal else None
        read = Feedback("policy", None, "confidence", stated, text)
        return update_format_score(episode.add_feedback(read), fault)

    @staticmethod
    def _describe_gap(stated: float, score: float) -> str | None:
        if not abs(stated - score) > 0.5:
            return None
        return f"It states a confidence of {stated:g}, but the answer is {'right' if score > stated else 'wrong'}."


def parse_confidence(response: str) -> tuple[float, str | None]:
    """The stated confidence in [0, 1] or NaN, and what is wrong with how it is stated, or None."""
    written = extract_tag(response, "confidence")
    if written is None:
        written = next((match["value"] for match in reversed(list(CONFIDENCE_PATTERN.finditer(response)))), None)
    if written is None:
        return math.nan, (
            "It states no confidence: a number from 0 to 1 was asked for, as in <confidence>0.7</confidence>."
        )
    number = NUMBER.fullmatch(written.strip())
    value = float(number[1]) / (100 if number[2] else 1) if number else math.nan
    if 0 <= value <= 1:
        return abs(value), None
    return math.nan, f"Its confidence is stated as {written.strip()[:40]!r}; a number from 0 to 1 was asked for."
