"""Words that stand for values: true and false as tables write them, and one-word verdicts as scores."""

from __future__ import annotations

from typing import Any

FLAGS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False, "1.0": True, "0.0": False}
"""What a spreadsheet, a CSV writer or a person writes for true and false, in lower case."""
GOOD = (
    *("good", "correct", "right", "yes", "true", "accept", "accepted", "pass", "passed", "positive", "desirable"),
    *("like", "liked", "thumbs up", "thumbs_up", "thumbs-up", "up", "upvote", "chosen", "helpful", "👍"),
)
MIDDLE = ("ok", "okay", "neutral", "mixed", "partial", "partially correct", "so-so")
BAD = (
    *("bad", "incorrect", "wrong", "no", "false", "reject", "rejected", "fail", "failed", "negative", "undesirable"),
    *("dislike", "disliked", "thumbs down", "thumbs_down", "thumbs-down", "down", "downvote", "unhelpful", "👎"),
)
VERDICTS = dict.fromkeys(GOOD, 1.0) | dict.fromkeys(MIDDLE, 0.5) | dict.fromkeys(BAD, 0.0)
"""One-word answers to a question with labels, and the score in [0, 1] that each stands for."""
VERDICT_SCALE = (0.0, 1.0)


def parse_flag(value: Any) -> bool | None:
    """True or false: a boolean, 0 or 1, or one of `FLAGS` in any case; None for anything else."""
    if isinstance(value, str):
        return FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def parse_verdict(value: Any) -> float | None:
    """The score in [0, 1] of a one-word verdict such as "good"; None for anything else."""
    return VERDICTS.get(value.strip().lower()) if isinstance(value, str) else None
