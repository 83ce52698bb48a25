"""Guards on the answers of a step: that they mention feedback they never read, or state always the same confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fdt.distributed import gather_objects, reduce_sum
from fdt.guards.base import Guard, Metrics
from feedback.text_metrics import has_leak
from feedback.types import Episode


@dataclass(frozen=True)
class HintLeak(Guard):
    """Answers that mention a critique which only the teacher read (distillation can teach to write about it)."""

    share: float = 0.1
    """Share of a step's answers that may, above the share at the first measured step (a critique may quote)."""

    def measure(self, metrics: Metrics, device: Any) -> float:
        found = [has_leak(e.response, _join_prompt(e), e.critique) for e in metrics.batch.episodes]
        sums = reduce_sum(
            {"leaks": torch.tensor(float(sum(found))), "answers": torch.tensor(float(len(found)))}, device
        )
        return sums["leaks"] / sums["answers"] if sums["answers"] else math.nan

    def check_bounds(self, values: Sequence[float]) -> str | None:
        if values[-1] <= values[0] + self.share:
            return None
        return f"{values[-1]:.0%} of the answers mention feedback absent from their prompt; at first {values[0]:.0%}"


@dataclass(frozen=True)
class ConfidenceCollapse(Guard):
    """Stated confidences that no longer differ between answers, whatever their mean; a grader must read them."""

    spread: float = 0.02
    """Standard deviation over a step's answers below which they are all the same."""
    name: str = "confidence"
    """Name of the feedback that holds the stated confidence."""

    def measure(self, metrics: Metrics, device: Any) -> float:
        mine = [item.score for e in metrics.batch.episodes for item in e.feedback if item.name == self.name]
        stated = [value for part in gather_objects(mine) for value in part if not math.isnan(value)]
        return float(torch.tensor(stated).std()) if len(stated) > 1 else math.nan

    def check_bounds(self, values: Sequence[float]) -> str | None:
        if values[-1] >= self.spread:
            return None
        return f"stated confidences differ by {values[-1]:.3f} (standard deviation): they are the same for every answer"


def _join_prompt(episode: Episode) -> str:
    return "\n".join(str(message["content"]) for message in episode.task.messages)
