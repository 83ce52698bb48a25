"""Guards on what the answers of a step say: feedback that they were never shown, confidence that is always the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fdt.distributed import gather_objects, reduce_sum
from fdt.guards.base import Guard
from feedback.text_metrics import has_leak


@dataclass(frozen=True)
class HintLeak(Guard):
    """Answers that speak of a critique which only the teacher was shown (distillation can teach to talk about it)."""

    share: float = 0.1
    """Share of a step's answers that may, above the share at the first measured step (a critique may quote)."""

    def measure(self, outcome: Any, device: Any) -> float:
        found = [has_leak(e.response, _join_prompt(e), e.critique) for e in outcome.batch.episodes]
        sums = reduce_sum(
            {"leaks": torch.tensor(float(sum(found))), "answers": torch.tensor(float(len(found)))}, device
        )
        return sums["leaks"] / sums["answers"] if sums["answers"] else math.nan

    def check_bounds(self, seen: Sequence[float]) -> str | None:
        if seen[-1] <= seen[0] + self.share:
            return None
        return f"{seen[-1]:.0%} of the answers speak of feedback that they were not shown; at first {seen[0]:.0%} did"


@dataclass(frozen=True)
class ConfidenceCollapse(Guard):
    """Stated confidences that no longer tell answers apart, whatever their mean (needs a grader that reads them)."""

    spread: float = 0.02
    """Standard deviation over a step's answers below which they are all the same."""
    name: str = "confidence"
    """Name of the feedback that holds the stated confidence."""

    def measure(self, outcome: Any, device: Any) -> float:
        mine = [item.score for e in outcome.batch.episodes for item in e.feedback if item.name == self.name]
        stated = [value for part in gather_objects(mine) for value in part if not math.isnan(value)]
        return float(torch.tensor(stated).std()) if len(stated) > 1 else math.nan

    def check_bounds(self, seen: Sequence[float]) -> str | None:
        if seen[-1] >= self.spread:
            return None
        return f"stated confidences differ by {seen[-1]:.3f} (standard deviation): they tell no answer from another"


def _join_prompt(episode: Any) -> str:
    return "\n".join(str(message["content"]) for message in episode.task.messages)
