"""A verifier for mathematics: the same value, however it is written."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.graders.base import ruled
from feedback.graders.isolated import isolated, require
from feedback.graders.verifier import Verifier, told, unjudged, wrong
from feedback.types import Feedback, Task

LONGEST = 10_000
"""Characters at the end of an answer that are read."""


@dataclass(frozen=True)
class MathMatch(Verifier):
    r"""Asks math-verify (extra `math`) whether answer and reference are the same mathematics: `0.5` is `\frac{1}{2}`.

    It reads LaTeX between `$...$` or in `\boxed{...}` and plain arithmetic, and computes, so it runs in a process of
    its own. Score 1 or 0; an answer without mathematics scores 0. A reference without dollar signs may be LaTeX too.
    Not judged: a task whose reference holds no mathematics, and what takes longer than the time limit.
    """

    seconds: float = 5.0
    """Longest time of one verdict [s]."""

    def __post_init__(self) -> None:
        require("math_verify", "math")

    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """One `Feedback` named "math"."""
        if not task.reference:
            return None
        given = (answer or "")[-LONGEST:]
        verdict = isolated("mathematics").ask(self.seconds, answer=given, right=task.reference)
        if "unjudged" in verdict:
            unjudged(f"math-verify: {verdict['unjudged']}")
            return None
        if verdict["equal"]:
            return ruled("math", 1.0)
        return ruled("math", 0.0, told(task) if self.tell else wrong(given if verdict["read"] else None))
