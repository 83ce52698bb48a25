"""Tokens of an episode in columns, and what can be said of them in one number."""

from __future__ import annotations

from math import isfinite
from typing import Any

from fdt.report.measures import SIGNAL, WEIGHT, get_number
from fdt.report.runs import Record
from fdt.report.sanitize import make_legible

DIGITS = 4
"""Digits after the point of a token's numbers."""
VALUES = {"logp": "before", "after": "after", "teacher_logp": "teacher", "advantage": "advantage", "turn": "turn"}
"""Number of a token in the transcript -> its name in the page."""


def build_columns(tokens: list[Record]) -> dict[str, Any]:
    """``text`` and every number of the tokens that any of them has, a list each; ``signals`` and
    ``weights``: term -> list."""
    found: dict[str, Any] = {"text": [make_legible(str(token.get("text", ""))) for token in tokens]}
    for name, short in VALUES.items():
        values = [_round(get_number(token, name)) for token in tokens]
        if any(value is not None for value in values):
            found[short] = values
    found["signals"] = {
        make_legible(term): [_round(get_number(token, SIGNAL + term)) for token in tokens]
        for term in list_signals(tokens)
    }
    found["weights"] = {
        make_legible(term): [_round(get_number(token, WEIGHT + term)) for token in tokens]
        for term in list_signals(tokens)
        if any(WEIGHT + term in token for token in tokens)
    }
    return found


def list_signals(tokens: list[Record]) -> list[str]:
    """The terms that declare a signal for these tokens, in the order of their appearance."""
    return list(dict.fromkeys(key.removeprefix(SIGNAL) for token in tokens for key in token if key.startswith(SIGNAL)))


def compute_change(tokens: list[Record]) -> float | None:
    """Sum over tokens of |log p after − before| in nats; where that was not recorded, of |log p(teacher) − log p|."""
    for later in ("after", "teacher_logp"):
        gaps = [abs(get_number(token, later) - get_number(token, "logp")) for token in tokens]
        gaps = [gap for gap in gaps if isfinite(gap)]
        if gaps:
            return round(sum(gaps), DIGITS)
    return None


def compute_disagreement(tokens: list[Record]) -> float | None:
    """Share of the tokens that two terms or more want to move, on which they want opposite things; None without any."""
    both = 0
    opposed = 0
    for token in tokens:
        signs = {get_number(token, key) > 0 for key in token if key.startswith(SIGNAL) and _has_pull(token, key)}
        count = sum(_has_pull(token, key) for key in token if key.startswith(SIGNAL))
        both += count > 1
        opposed += len(signs) > 1
    return round(opposed / both, DIGITS) if both else None


def _has_pull(token: Record, key: str) -> bool:
    value = get_number(token, key)
    return isfinite(value) and value != 0


def _round(value: float) -> float | None:
    return round(value, DIGITS) if isfinite(value) else None
