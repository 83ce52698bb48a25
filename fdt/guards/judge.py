"""A guard on the judge itself, before its verdicts train anybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fdt.errors import UserError
from fdt.guards.base import Guard, Metrics
from feedback.graders.judges.base import Judge
from feedback.graders.judges.selftest import MOST_WINS, run_self_test
from feedback.types import collect_tasks


@dataclass(frozen=True)
class JudgeSelfTest(Guard):
    """Before the first step: answers without content must not win (arXiv 2507.08794). `data.grader` must be a judge."""

    most_wins: float = MOST_WINS
    """Share of canned answers that may win."""
    prompts: int = 4
    """Training prompts that each canned answer is given to."""

    def measure(self, metrics: Metrics, device: Any) -> float:
        return math.nan

    def check_bounds(self, values: Sequence[float]) -> str | None:
        return None

    def check_start(self, trainer: Any) -> str | None:
        grader = trainer.datamodule.grader
        if not isinstance(grader, Judge):
            raise UserError(
                "JudgeSelfTest tests a judge", got=type(grader).__name__, expected="an LLM judge", key="data.grader"
            )
        found = run_self_test(grader, collect_tasks(trainer.datamodule.episodes)[: self.prompts])
        if found.rate <= self.most_wins:
            return None
        named = ", ".join(f"{text!r} {count}x" for text, count in found.wins.most_common(3)) or "none got a score"
        return f"answers without content won {found.rate:.1%} of {found.num_graded} verdicts ({named})"
