"""What `fdt bench signals` runs: settings of the world, arms, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fdt.bench import base
from fdt.bench.base import BASE
from fdt.environments.conventions import verdict
from feedback.types import Episode

ARMS = ("scores", "critiques", "both", "gated", "rewrites", "references", "stated", "shuffled")
SETTINGS: dict[str, dict[str, Any]] = {
    "headline": {"coverage": 0.6, "noise": 0.1, "scored": 1.0},
    "sparse": {"coverage": 0.6, "noise": 0.1, "scored": 0.05},
}
"""Coverage and noise of critiques, and share of answers that are scored."""
LISTENING = ("scores", "both", "gated")
"""Arms that hear scores: the only ones that a sparse setting changes."""
GRID = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
"""Learning rates tried for every arm, the same for each."""
RATES: dict[str, dict[str, float]] = {
    "headline": dict.fromkeys(ARMS, 1e-3),
    "sparse": dict.fromkeys(LISTENING, 1e-3),
}
"""What is used without `--tune`: the middle of the grid for every arm, until a full run has chosen."""
PAIRS = (
    ("scores", BASE), ("critiques", "scores"), ("both", "scores"), ("both", "critiques"), ("gated", "both"),
    ("rewrites", "critiques"), ("stated", "critiques"), ("references", "critiques"), ("shuffled", BASE),
)  # fmt: skip
COVERED = (("critiques", "scores"), ("both", "critiques"))
"""Pairs that are compared once more over the prompts of the users who criticise."""


@dataclass(frozen=True)
class Job(base.Job):
    """A run on the small world, where each seed has habits of its own."""

    config = "task/conventions"
    right = "fdt.bench.plan.right"

    def environment(self) -> dict[str, Any]:
        return {**SETTINGS[self.setting], "world": self.seed}


def right(episode: Episode) -> bool:
    """Whether an answer is truly right, scored or not."""
    return verdict(episode.response, episode.task)
