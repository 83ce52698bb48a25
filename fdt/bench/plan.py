"""What `fdt bench signals` runs: settings of the world, arms, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fdt.bench import base
from fdt.bench.base import BASE
from fdt.environments.conventions import verdict
from feedback.types import Episode

ARMS = ("scores", "critiques", "both", "faded", "gated", "rewrites", "references", "stated", "shuffled")
SETTINGS: dict[str, dict[str, Any]] = {
    "headline": {"coverage": 0.6, "noise": 0.1, "scored": 1.0},
    "sparse": {"coverage": 0.6, "noise": 0.1, "scored": 0.05},
}
"""Coverage and noise of critiques, and share of answers that are scored."""
LISTENING = ("scores", "both", "faded", "gated")
"""Arms that hear scores: the only ones that a sparse setting changes."""
GRID = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
"""Learning rates tried for every arm, the same for each."""
RATES: dict[str, dict[str, float]] = {
    "headline": {
        "scores": 2.5e-4, "critiques": 5e-4, "both": 1e-3, "faded": 5e-4, "gated": 5e-4, "rewrites": 2.5e-4,
        "references": 5e-4, "stated": 1.25e-4, "shuffled": 2.5e-4,
    },
    "sparse": {"scores": 1.25e-4, "both": 5e-4, "faded": 5e-4, "gated": 5e-4},
}  # fmt: skip
"""What is used without `--tune`: what the full run of 2026-11-26 chose on the tuning seed."""
PAIRS = (
    ("scores", BASE), ("critiques", "scores"), ("both", "scores"), ("both", "critiques"),
    ("faded", "scores"), ("faded", "critiques"), ("faded", "both"), ("gated", "both"),
    ("rewrites", "critiques"), ("stated", "critiques"), ("references", "critiques"), ("shuffled", BASE),
)  # fmt: skip
COVERED = (("critiques", "scores"), ("both", "critiques"))
"""Pairs that are compared once more over the prompts of the users who criticise."""


@dataclass(frozen=True)
class Job(base.Job):
    """A run on the small world, where each seed has habits of its own."""

    config = "task/conventions"
    right = "fdt.bench.plan.right"
    settings: ClassVar[dict[str, dict[str, Any]]] = SETTINGS
    """What each setting says to the environment."""

    def environment(self) -> dict[str, Any]:
        return {**self.settings[self.setting], "world": self.seed}


def right(episode: Episode) -> bool:
    """Whether an answer is truly right, scored or not."""
    return verdict(episode.response, episode.task)
