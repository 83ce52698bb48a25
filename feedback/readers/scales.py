"""The scale of a file's scores: declared, or known to be [0, 1] once every one of them has been seen."""

from __future__ import annotations

import math

from feedback.faults import DataError

Scale = tuple[float, float]
USUAL_SCALES: tuple[Scale, ...] = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
"""Scales that people use, the narrowest first, to suggest one for numbers that were seen."""


class ScoreRange:
    """The declared scale of a file, or the range of its undeclared scores.

    Even a 1 may be the lowest score where a 5 occurs further down, so undeclared scores are looked through before the
    first is used; when any lies outside [0, 1], all of them are refused.
    """

    def __init__(self, declared_scale: Scale | None = None):
        self.declared_scale = None if declared_scale is None else (float(declared_scale[0]), float(declared_scale[1]))
        self.low = math.inf
        self.high = -math.inf
        self.is_out_of_range = False
        """True once all were seen and some lay outside [0, 1]."""

    def add_score(self, value: float) -> None:
        """Widens the range to hold an undeclared score."""
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def check_range(self) -> None:
        """Says whether the range seen needs a declared scale."""
        self.is_out_of_range = self.low < 0 or self.high > 1


def check_scale(path: str, scale: Scale | None) -> None:
    """Raises `DataError` unless the scale is None or two finite numbers, the lower first."""
    if scale is not None and not (scale[0] < scale[1] and math.isfinite(scale[1] - scale[0])):
        raise DataError(
            path, None, "scale", str(scale), "its lowest and highest possible score, finite, lowest < highest"
        )


def suggest_scale(low: float, high: float) -> Scale:
    """The narrowest usual scale that holds a range, or the range itself: a proposal for the user to confirm."""
    return next((scale for scale in USUAL_SCALES if scale[0] <= low and high <= scale[1]), (low, high))
