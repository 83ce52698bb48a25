"""From outcomes to claims: levels, paired differences with intervals over prompts and seeds, rollouts to equal accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdt.bench.nested import nested_interval
from fdt.bench.plan import ARMS, BASE, SETTINGS
from fdt.environments.conventions import Conventions
from fdt.statistics import Interval

MARGIN = 0.02
"""`At least as good` means: worse by less than this, at the interval's lower end."""
SMOOTH = 5
"""Steps whose answers are taken together in a learning curve."""
PAIRS = (
    ("scores", BASE), ("critiques", "scores"), ("both", "scores"), ("both", "critiques"), ("gated", "both"),
    ("rewrites", "critiques"), ("stated", "critiques"), ("references", "critiques"), ("shuffled", BASE),
)  # fmt: skip
COVERED = (("critiques", "scores"), ("both", "critiques"))
"""Pairs that are compared once more over the prompts of the users who criticise."""

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Level:
    """One arm in one setting."""

    setting: str
    arm: str
    rate: float
    right: Interval
    """Share of held-out prompts answered rightly, greedy."""
    reached: list[float]
    """For each seed the rollouts until it answered as well as scores alone did at the end; infinite where it never did."""
    rollouts: int
    tokens: dict[str, int]
    """Mean over seeds: sampled, and heard by each term."""
    seconds: float


@dataclass(frozen=True)
class Difference:
    """One arm minus another over the same prompts and seeds."""

    setting: str
    arm: str
    than: str
    prompts: str
    """all, or covered: those of users who criticise."""
    value: Interval

    @property
    def verdict(self) -> str:
        """In words what the interval allows to say."""
        if not self.value.known:
            return "undecided"
        if self.value.low > 0:
            return "better"
        if self.value.high < 0:
            return "worse"
        return "at least as good" if self.value.low > -MARGIN else "undecided"


def levels(outcomes: list[Outcome], setting: str) -> list[Level]:
    """One row an arm, the base first."""
    found = []
    for arm in (BASE, *ARMS):
        runs = _runs(outcomes, setting, arm)
        if runs:
            goals = {run["job"]["seed"]: curve(run)[1][-1] for run in _runs(outcomes, setting, "scores")}
            found.append(Level(
                setting, arm, runs[0]["job"]["rate"], nested_interval(_right(runs)),
                [reached(run, goals.get(run["job"]["seed"], nan)) for run in runs if run["steps"]],
                sum(step["rollouts"] for step in runs[0]["steps"]), _tokens(runs),
                sum(run["seconds"] for run in runs) / len(runs),
            ))  # fmt: skip
    return found


def differences(outcomes: list[Outcome], setting: str) -> list[Difference]:
    """The stated pairs, paired by seed and prompt, as far as both arms were run from the same seeds."""
    found = []
    for prompts, pairs in (("all", PAIRS), ("covered", COVERED)):
        for arm, than in pairs:
            ours, theirs = (_runs(outcomes, setting, name) for name in (arm, than))
            shared = {run["job"]["seed"] for run in ours} & {run["job"]["seed"] for run in theirs}
            one, two = ([run for run in runs if run["job"]["seed"] in shared] for runs in (ours, theirs))
            if shared:
                gap = [a - b for a, b in zip(_right(one), _right(two), strict=True)]
                gap = [row[covered(run)] for row, run in zip(gap, one, strict=True)] if prompts == "covered" else gap
                found.append(Difference(setting, arm, than, prompts, nested_interval(gap)))
    return found


def curve(run: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rollouts spent [n] and share of right answers [n] among the sampled ones of the last steps, after each step."""
    spent = np.cumsum([step["rollouts"] for step in run["steps"]]).astype(float)
    right = np.cumsum([0.0, *(step["right"] for step in run["steps"])])
    before = np.maximum(np.arange(len(spent)) + 1 - SMOOTH, 0)
    total = np.concatenate([[0.0], spent])
    return spent, (right[1:] - right[before]) / (spent - total[before])


def reached(run: Outcome, goal: float) -> float:
    """Rollouts after which the curve first stood at `goal`; infinite where it never did, NaN without a goal."""
    spent, right = curve(run)
    hits = np.flatnonzero(right >= goal)
    return nan if np.isnan(goal) else float(spent[hits[0]]) if len(hits) else float("inf")


def covered(run: Outcome) -> NDArray[np.bool_]:
    """Which held-out prompts [P] come from users who criticise."""
    world = Conventions(coverage=SETTINGS[run["job"]["setting"]]["coverage"], world=run["job"]["seed"])
    return np.array([prompt.split("-")[0] in world.vocal for prompt in run["prompts"]])


def deceived(found: list[Difference]) -> list[str]:
    """Guards that fell: reasons not to believe the table, one line each."""
    wrong = [gap for gap in found if (gap.arm, gap.than) == ("shuffled", BASE) and gap.verdict == "better"]
    return [f"{gap.setting}: critiques shuffled between users beat the base, so something else than them teaches"
            for gap in wrong]  # fmt: skip


def _runs(outcomes: list[Outcome], setting: str, arm: str) -> list[Outcome]:
    chosen = [run for run in outcomes if (run["job"]["setting"], run["job"]["arm"]) == (setting, arm)]
    return sorted(chosen, key=lambda run: run["job"]["seed"])


def _right(runs: list[Outcome]) -> list[NDArray[np.float64]]:
    return [np.array(run["right"], dtype=np.float64) for run in runs]


def _tokens(runs: list[Outcome]) -> dict[str, int]:
    names = dict.fromkeys(name for run in runs for step in run["steps"] for name in step["tokens"])
    return {
        name: round(sum(step["tokens"].get(name, 0) for run in runs for step in run["steps"]) / len(runs))
        for name in names
    }
