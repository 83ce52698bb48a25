"""What `fdt bench credit` runs and how it is read: on FrozenLake the same return lands on different moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdt.bench import base
from fdt.bench.base import BASE, Curve, Outcome
from fdt.bench.compare import Comparison, runs_of
from fdt.bench.show import cell
from fdt.statistics.nested import nested_interval
from feedback.types import Episode

ARMS = ("whole", "last", "ahead")
SETTINGS: dict[str, dict[str, Any]] = {
    "progress": {"reward": "fdt.environments.frozenlake.progress"},
    "goal": {"reward": "fdt.environments.frozenlake.goal_only"},
}
"""What a move is paid for: the share of the way that it newly covers, or reaching the goal."""
GRID = (5e-4, 1e-3, 2e-3)
END, COURSE = "the end", "the whole run"


@dataclass(frozen=True)
class Job(base.Job):
    """A run on lakes of its own: each seed deals other maps, and none of the training's is held out."""

    config = "task/lake"
    right = "fdt.bench.credit.solved"
    before = True

    def environment(self) -> dict[str, Any]:
        return dict(SETTINGS[self.setting])


def solved(episode: Episode) -> bool:
    """Whether the goal was reached."""
    return episode.score == 1.0


class Landing(Comparison):
    """Where along an episode its return lands, and what that teaches, on FrozenLake."""

    name = "credit"
    job = Job
    arms = ARMS
    settings = SETTINGS
    grid = GRID
    rates = {setting: dict.fromkeys(ARMS, 1e-3) for setting in SETTINGS}
    seeds = (1, 5)
    rival = "last"
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
        "last": "the episode's last move receives it, all others nothing",
        "ahead": "every move receives that of the return from there on, among the group's moves at the same turn",
    }

    def curve(self, run: Outcome) -> Curve:
        spent, verdicts = measured(run)
        return spent, verdicts.mean(1)

    def band(self, runs: list[Outcome]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = [nested_interval(seeds) for seeds in zip(*(measured(run)[1] for run in runs), strict=True)]
        return np.array([interval.low for interval in found]), np.array([interval.high for interval in found])

    def values(self, run: Outcome) -> dict[str, NDArray[np.float64]]:
        end = super().values(run)["all"]
        # The mean over equally spaced measurements, map by map: the curve's area. The first is left out.
        return {END: end} | ({COURSE: measured(run)[1][1:].mean(0)} if run["heldout"] else {})

    def tables(self, outcomes: list[Outcome]) -> list[tuple[Sequence[str], list[list[str]]]]:
        """Success after so many steps."""
        learned = [
            (setting, arm, runs)
            for setting in self.settings
            for arm in self.arms
            if (runs := runs_of(outcomes, setting, arm))
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
                            cell(nested_interval(seeds), ".0f")
                            for seeds in zip(*(measured(run)[1] for run in runs), strict=True)
                        ),
                    ]
                    for setting, arm, runs in learned
                ],
            )
        ]


def measured(run: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rollouts spent [M] when held-out maps were measured, and what came out [M, P]: 1 solved, 0 not."""
    spent = np.cumsum([0, *(step["rollouts"] for step in run["steps"])])
    places = [entry["step"] for entry in run["heldout"]]
    return spent[places].astype(float), np.array([entry["right"] for entry in run["heldout"]], dtype=np.float64)
