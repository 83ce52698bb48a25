"""Words that stand for values: true and false as tables write them, one-word verdicts as scores, ratings as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TRUE = (
    *("true", "yes", "1", "1.0", "y", "t", "on"),
    *(
        "wahr",
        "ja",
        "vrai",
        "oui",
        "verdadero",
        "sí",
        "si",
        "vero",
        "verdadeiro",
        "sim",
        "waar",
        "是",
        "真",
        "✅",
        "✔",
        "✓",
    ),
)
FALSE = (
    *("false", "no", "0", "0.0", "n", "f", "off"),
    *("falsch", "nein", "faux", "non", "falso", "não", "onwaar", "nee", "否", "假", "❌", "✗", "✘"),
)
FLAGS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
"""What a spreadsheet, a database, a CSV writer or a person writes for true and false, in lower case."""
GOOD = (
    *("good", "correct", "right", "yes", "true", "accept", "accepted", "pass", "passed", "positive", "desirable"),
    *("success", "succeeded", "successful", "solved", "resolved"),
    *("like", "liked", "thumbs up", "thumbs_up", "thumbs-up", "thumbsup", "up", "upvote", "chosen", "helpful", "👍"),
    *("wahr", "ja", "vrai", "oui", "verdadero", "sí", "vero", "verdadeiro", "sim", "是", "✅", "✔", "✓"),
)
MIDDLE = ("ok", "okay", "neutral", "mixed", "partial", "partially correct", "so-so")
BAD = (
    *("bad", "incorrect", "wrong", "no", "false", "reject", "rejected", "fail", "failed", "negative", "undesirable"),
    *("failure", "unsuccessful", "unsolved", "unresolved"),
    *("dislike", "disliked", "thumbs down", "thumbs_down", "thumbs-down", "thumbsdown", "down", "downvote"),
    *("unhelpful", "👎", "falsch", "nein", "faux", "non", "falso", "não", "否", "❌", "✗", "✘"),
)
VERDICTS = dict.fromkeys(GOOD, 1.0) | dict.fromkeys(MIDDLE, 0.5) | dict.fromkeys(BAD, 0.0)
"""One-word answers to a question with labels, and the score in [0, 1] that each stands for."""
VERDICT_SCALE = (0.0, 1.0)
PLACEHOLDERS = frozenset({"nan", "na", "n/a", "none", "null", "nil", "-", "--", "—", "#n/a", "<na>"})
"""What stands where there is nothing."""
SHADES = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
"""Colours of an emoji's skin, and the mark that makes a sign one: 👍🏽 and 👍 say the same."""
FRACTION = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(?:/|out of|of|von|sur|de)\s*(\d+(?:[.,]0+)?)(?:\s*(?:stars?|points?|★|⭐))?",
    re.IGNORECASE | re.ASCII,
)
COUNTED = re.compile(r"(\d+(?:[.,]\d+)?)(?:\s*|-)(?:stars?|star\(s\)|points?|pts|★|⭐)", re.IGNORECASE | re.ASCII)
PERCENT = re.compile(r"(-?\d+(?:[.,]\d+)?)\s*%", re.ASCII)
STARS = re.compile("([★⭐🌟]+)([☆✩]*)")


def parse_flag(value: Any) -> bool | None:
    """True or false: a boolean, 0 or 1, or one of `FLAGS` in any case; None for anything else."""
    if isinstance(value, str):
        return FLAGS.get(_simplify(value))
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def parse_verdict(value: Any) -> float | None:
    """The score in [0, 1] of a one-word verdict such as "good"; None for anything else."""
    return VERDICTS.get(_simplify(value)) if isinstance(value, str) else None


def is_placeholder(text: str) -> bool:
    """Whether a text stands for no text: what programs and people write where there is nothing to say."""
    return len(text) < 8 and text.strip().lower() in PLACEHOLDERS


def _simplify(word: str) -> str:
    return SHADES.sub("", word).strip().lower()


@dataclass(frozen=True)
class Rating:
    """A number that a text holds, and what it is out of, where the text says so."""

    value: float
    highest: float | None = None
    """The best there is; None where the text does not say."""
    is_share: bool = False
    """Whether 0 is the worst: a percentage, or a part of 1. What is out of 5 may as well begin at 1."""


def parse_rating(value: Any) -> Rating | None:
    """The rating that a text is: "4/5", "4 out of 5", "80 %", "4 stars", "★★★☆☆"; None for anything else."""
    text = SHADES.sub("", value).strip() if isinstance(value, str) and len(value) < 40 else ""
    if found := PERCENT.fullmatch(text):
        return Rating(_to_float(found[1]), 100.0, is_share=True)
    if found := FRACTION.fullmatch(text):
        highest = _to_float(found[2])
        return Rating(_to_float(found[1]), highest, is_share=highest == 1)
    if found := COUNTED.fullmatch(text):
        return Rating(_to_float(found[1]))
    if found := STARS.fullmatch(text):
        return Rating(float(len(found[1])), float(len(text)) if found[2] else None)
    return None


def _to_float(number: str) -> float:
    return float(number.replace(",", "."))
