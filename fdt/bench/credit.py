"""What `fdt bench credit` runs and how it is read: on FrozenLake different moves get the advantage of one return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdt.bench import base
from fdt.bench.base import BASE, Curve, Outcome
from fdt.bench.compare import Comparison, select_runs
from fdt.bench.show import format_cell
from fdt.statistics.nested import compute_nested_interval
from feedback.types import Episode

ARMS = ("whole", "last", "ahead")
SETTINGS: dict[str, dict[str, Any]] = {
    "progress": {"reward": "fdt.environments.frozenlake.reward_progress"},
    "goal": {"reward": "fdt.environments.frozenlake.reward_goal"},
}
"""What a move is rewarded for: the share of the way that it newly covers, or reaching the goal."""
GRID = (5e-4, 1e-3, 2e-3)
END = "the end"
COURSE = "the whole run"


@dataclass(frozen=True)
class Job(base.Job):
    """A run on lakes of its own: each seed has other maps, and none of the training's is held out."""

    config = "task/lake"
    is_right_path = "fdt.bench.credit.is_solved"
    measure_before = True

    def build_environment_args(self) -> dict[str, Any]:
        return dict(SETTINGS[self.setting])


def is_solved(episode: Episode) -> bool:
    """Whether the goal was reached."""
    return episode.score == 1.0


class AdvantageBench(Comparison):
    """Which moves of an episode get the advantage of its return, and what that does, on FrozenLake."""

    name = "credit"
    job = Job
    arms = ARMS
    settings = SETTINGS
    grid = GRID
    rates = {setting: dict.fromkeys(ARMS, 1e-3) for setting in SETTINGS}
    seeds = (1, 5)
    baseline = "last"
    pairs = {
        END: (("whole", BASE), ("last", BASE), ("ahead", BASE), ("whole", "last"), ("whole", "ahead")),
        COURSE: (("whole", "last"), ("whole", "ahead")),
    }
    words = {
        "level": "maps solved",
        "prompts": "maps that no training holds, greedy, at most 10 moves",
        "curve": "held-out maps while learning",
        "share": "maps solved, %",
        "bars": "held-out maps at the end",
    }
    notes = {
        BASE: "the policy before training",
        "whole": "every move receives the advantage of the episode's return (MS-GRPO)",
        "last": "the episode's last move receives it, all others 0",
        "ahead": "every move receives that of the return from there on, among the group's moves at the same turn",
    }

    def compute_curve(self, run: Outcome) -> Curve:
        spent, verdicts = get_heldout(run)
        return spent, verdicts.mean(1)

    def compute_band(self, runs: list[Outcome]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = [compute_nested_interval(seeds) for seeds in zip(*(get_heldout(run)[1] for run in runs), strict=True)]
        return np.array([interval.low for interval in found]), np.array([interval.high for interval in found])

    def compute_values(self, run: Outcome) -> dict[str, NDArray[np.float64]]:
        end = super().compute_values(run)["all"]
        # The mean over equally spaced measurements, map by map: the curve's area. The first is left out.
        return {END: end} | ({COURSE: get_heldout(run)[1][1:].mean(0)} if run["heldout"] else {})

    def build_tables(self, outcomes: list[Outcome]) -> list[tuple[Sequence[str], list[list[str]]]]:
        """Success after so many steps."""
        learned = [
            (setting, arm, runs)
            for setting in self.settings
            for arm in self.arms
            if (runs := select_runs(outcomes, setting, arm))
        ]
        if not learned:
            return []
        steps = [entry["step"] for entry in learned[0][2][0]["heldout"]]
        heading = ("setting", "arm", *(f"step {step}" for step in steps))
        return [
            (
                heading,
                [
                    [
                        setting,
                        arm,
                        *(
                            format_cell(compute_nested_interval(seeds), ".0f")
                            for seeds in zip(*(get_heldout(run)[1] for run in runs), strict=True)
                        ),
                    ]
                    for setting, arm, runs in learned
                ],
            )
        ]


def get_heldout(run: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rollouts spent [M] when held-out maps were measured, and what came out [M, P]: 1 solved, 0 not."""
    spent = np.cumsum([0, *(step["rollouts"] for step in run["steps"])])
    places = [entry["step"] for entry in run["heldout"]]
    return spent[places].astype(float), np.array([entry["right"] for entry in run["heldout"]], dtype=np.float64)
