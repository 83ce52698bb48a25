"""What `fdt bench signals` runs: settings of the world, arms, learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdt.bench import base
from fdt.bench.base import BASE, Curve, Outcome
from fdt.bench.compare import Comparison, Difference
from fdt.environments.conventions import Conventions, score_answer
from feedback.types import Episode

ARMS = ("dspo", "scores", "critiques", "both", "faded", "gated", "rewrites", "references", "stated", "shuffled")
SETTINGS: dict[str, dict[str, Any]] = {
    "headline": {"coverage": 0.6, "noise": 0.1, "score_rate": 1.0},
    "sparse": {"coverage": 0.6, "noise": 0.1, "score_rate": 0.05},
}
"""Coverage and noise of critiques, and share of answers that are scored."""
SCORE_ARMS = ("dspo", "scores", "both", "faded", "gated")
"""Arms that learn from scores: the only ones that a sparse setting changes."""
GRID = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
"""Learning rates tried for every arm, the same for each."""
RATES: dict[str, dict[str, float]] = {
    "headline": {
        "scores": 2.5e-4,
        "critiques": 5e-4,
        "both": 1e-3,
        "faded": 5e-4,
        "gated": 5e-4,
        "rewrites": 2.5e-4,
        "references": 5e-4,
        "stated": 1.25e-4,
        "shuffled": 2.5e-4,
    },
    "sparse": {"scores": 1.25e-4, "both": 5e-4, "faded": 5e-4, "gated": 5e-4},
}
"""What is used without `--tune`: what the full run of 2026-11-26 chose on the tuning seed."""
PAIRS = (
    ("scores", BASE),
    ("critiques", "scores"),
    ("both", "scores"),
    ("both", "critiques"),
    ("faded", "scores"),
    ("faded", "critiques"),
    ("faded", "both"),
    ("gated", "both"),
    ("rewrites", "critiques"),
    ("stated", "critiques"),
    ("references", "critiques"),
    ("shuffled", BASE),
)
COVERED_PAIRS = (("critiques", "scores"), ("both", "critiques"))
"""Pairs that are compared once more over the prompts of the users who criticise."""


@dataclass(frozen=True)
class Job(base.Job):
    """A run on the small world, where each seed has habits of its own."""

    config = "task/conventions"
    is_right_path = "fdt.bench.signals.is_right"
    settings: ClassVar[dict[str, dict[str, Any]]] = SETTINGS
    """The environment's arguments in each setting."""

    def build_environment_args(self) -> dict[str, Any]:
        return {**self.settings[self.setting], "world_seed": self.seed}


def is_right(episode: Episode) -> bool:
    """Whether an answer is truly right, scored or not."""
    return score_answer(episode.response, episode.task) == 1.0


SMOOTH = 5
"""Steps whose answers are taken together in a learning curve."""


class ConventionsComparison(Comparison):
    """A bench on the small world, whose learning curves are made of the answers that were sampled while learning."""

    words = {
        "level": "right",
        "prompts": "known users, unseen lists, greedy",
        "curve": "answers while learning",
        "share": "sampled answers right, %",
        "bars": "held-out answers",
    }

    def compute_curve(self, run: Outcome) -> Curve:
        return smooth_curve(run)

    def compute_band(self, runs: list[Outcome]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        shares = np.array([smooth_curve(run)[1] for run in runs])
        return shares.min(0), shares.max(0)


class Signals(ConventionsComparison):
    """Which signal teaches what, on the small world, against fair baselines."""

    name = "signals"
    job = Job
    arms = ARMS
    settings = SETTINGS
    grid = GRID
    rates = RATES
    seeds = (3, 5)
    baseline = "scores"
    pairs = {"all": PAIRS, "covered": COVERED_PAIRS}
    notes = {
        BASE: "the policy before training",
        "references": "imitates every right answer: an upper bound, not a competitor",
        "stated": "critiques that are the bare answer",
        "shuffled": "critiques meant for other users: the control",
        "faded": "both at first; the critique's weight is gone after half of the steps",
        "gated": "critique where wrong, else score",
        "rewrites": "imitates its own accepted rewrites",
    }

    def list_arms(self, setting: str) -> Sequence[str]:
        return ARMS if SETTINGS[setting]["score_rate"] == 1.0 else SCORE_ARMS

    def compute_values(self, run: Outcome) -> dict[str, NDArray[np.float64]]:
        every = super().compute_values(run)["all"]
        return {"all": every, "covered": every[mask_covered(run)]}

    def find_failures(self, found: Sequence[Difference]) -> list[str]:
        wrong = [gap for gap in found if (gap.arm, gap.baseline) == ("shuffled", BASE) and gap.verdict == "better"]
        return [
            f"{gap.setting}: critiques shuffled between users beat the base, so something else than them teaches"
            for gap in wrong
        ]


def smooth_curve(run: Outcome) -> Curve:
    """Rollouts spent [n] and share of right answers [n] among the sampled ones of the last steps, after each step."""
    spent = np.cumsum([step["rollouts"] for step in run["steps"]]).astype(float)
    right = np.cumsum([0.0, *(step["right"] for step in run["steps"])])
    before = np.maximum(np.arange(len(spent)) + 1 - SMOOTH, 0)
    total = np.concatenate([[0.0], spent])
    return spent, (right[1:] - right[before]) / (spent - total[before])


def mask_covered(run: Outcome) -> NDArray[np.bool_]:
    """Which held-out prompts [P] come from users who criticise."""
    world = Conventions(coverage=SETTINGS[run["job"]["setting"]]["coverage"], world_seed=run["job"]["seed"])
    return np.array([prompt.split("-")[0] in world.critiquing_users for prompt in run["prompts"]])
