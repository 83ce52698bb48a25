"""A verifier for mathematics: the same value, however it is written."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.graders.base import build_rule_feedback
from feedback.graders.isolated import get_process, require_library
from feedback.graders.verifier import Verifier, reject_answer, reveal_answer, warn_ungraded
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
        require_library("math_verify", "math")

    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """One `Feedback` named "math"."""
        if not task.reference:
            return None
        given = (answer or "")[-LONGEST:]
        verdict = get_process("mathematics").ask(self.seconds, answer=given, right=task.reference)
        if "ungraded" in verdict:
            warn_ungraded(f"math-verify: {verdict['ungraded']}")
            return None
        if verdict["equal"]:
            return build_rule_feedback("math", 1.0)
        return build_rule_feedback(
            "math", 0.0, reveal_answer(task) if self.reveal else reject_answer(given if verdict["read"] else None)
        )
