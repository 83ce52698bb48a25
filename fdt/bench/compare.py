"""From outcomes to claims: levels, paired differences with intervals over seeds and prompts, rollouts to get as far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan

import numpy as np
from numpy.typing import NDArray

from fdt.bench.base import BASE, Bench, Curve, Outcome
from fdt.statistics.intervals import Interval
from fdt.statistics.nested import compute_nested_interval

MARGIN = 0.02
"""`At least as good` means: worse by less than this, at the interval's lower end."""


class Comparison(Bench):
    """A bench that is read by learning curves, and by paired differences of what its arms came to."""

    baseline: str
    """The arm whose end the others are timed against."""
    pairs: dict[str, tuple[tuple[str, str], ...]]
    """Arms that are subtracted, for each name that `compute_values` gives."""
    words: dict[str, str]
    """level: heading of what is measured · prompts: what the held-out ones are · curve, share: title and axis of the
    learning curves · bars: title of the held-out levels."""
    notes: dict[str, str]
    """What an arm is, where its name does not tell."""

    @abstractmethod
    def compute_curve(self, run: Outcome) -> Curve:
        """How one run learned."""

    @abstractmethod
    def compute_band(self, runs: list[Outcome]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper edge [n] of what is drawn around the mean curve of one arm's runs."""

    def compute_values(self, run: Outcome) -> dict[str, NDArray[np.float64]]:
        """What pairs are compared by: a value for each held-out prompt, under a name."""
        return {"all": np.array(run["right"], dtype=np.float64)}

    def find_failures(self, found: Sequence[Difference]) -> list[str]:
        """Guards that fell, by the differences: reasons not to believe the tables, one line each."""
        return []

    def build_tables(self, outcomes: list[Outcome]) -> list[tuple[Sequence[str], list[list[str]]]]:
        """Further tables: heading and lines of cells."""
        return []


@dataclass(frozen=True)
class Level:
    """One arm in one setting."""

    setting: str
    arm: str
    rate: float
    right: Interval
    """Share of held-out prompts answered rightly, greedy."""
    rollouts_to_baseline: list[float]
    """For each seed the rollouts until it did as well as the baseline arm at its end; infinite where it never did."""
    rollouts: int
    tokens: dict[str, int]
    """Mean over seeds: sampled, and weighted by each term."""
    seconds: float


@dataclass(frozen=True)
class Difference:
    """One arm minus another over the same prompts and seeds."""

    setting: str
    arm: str
    baseline: str
    measure: str
    """Which values were compared, a name of the bench's."""
    value: Interval

    @property
    def verdict(self) -> str:
        """What the interval allows to conclude, in words."""
        if not self.value.has_bounds:
            return "undecided"
        if self.value.low > 0:
            return "better"
        if self.value.high < 0:
            return "worse"
        return "at least as good" if self.value.low > -MARGIN else "undecided"


@dataclass(frozen=True)
class Result:
    """All that a bench found."""

    bench: Comparison
    outcomes: list[Outcome]

    @property
    def settings(self) -> list[str]:
        """Those that were run, in the bench's order."""
        run = {outcome["job"]["setting"] for outcome in self.outcomes}
        return [setting for setting in self.bench.settings if setting in run]

    @cached_property
    def levels(self) -> list[Level]:
        return [row for setting in self.settings for row in compute_levels(self.bench, self.outcomes, setting)]

    @cached_property
    def differences(self) -> list[Difference]:
        return [gap for setting in self.settings for gap in compute_differences(self.bench, self.outcomes, setting)]

    @property
    def failures(self) -> list[str]:
        """Guards that fell."""
        return self.bench.find_failures(self.differences)


def compute_levels(bench: Comparison, outcomes: list[Outcome], setting: str) -> list[Level]:
    """One row an arm, the base first."""
    found = []
    goals = {
        run["job"]["seed"]: bench.compute_curve(run)[1][-1] for run in select_runs(outcomes, setting, bench.baseline)
    }
    for arm in (BASE, *bench.arms):
        runs = select_runs(outcomes, setting, arm)
        if runs:
            found.append(
                Level(
                    setting,
                    arm,
                    runs[0]["job"]["rate"],
                    compute_nested_interval([run["right"] for run in runs]),
                    [
                        count_rollouts_to(bench.compute_curve(run), goals.get(run["job"]["seed"], nan))
                        for run in runs
                        if run["steps"]
                    ],
                    sum(step["rollouts"] for step in runs[0]["steps"]),
                    _count_tokens(runs),
                    sum(run["seconds"] for run in runs) / len(runs),
                )
            )
    return found


def compute_differences(bench: Comparison, outcomes: list[Outcome], setting: str) -> list[Difference]:
    """The bench's pairs, paired by seed and prompt, as far as both arms were run from the same seeds."""
    found = []
    for measure, pairs in bench.pairs.items():
        for arm, baseline in pairs:
            ours = select_runs(outcomes, setting, arm)
            theirs = select_runs(outcomes, setting, baseline)
            shared = {run["job"]["seed"] for run in ours} & {run["job"]["seed"] for run in theirs}
            both = (
                [bench.compute_values(run)[measure] for run in runs if run["job"]["seed"] in shared]
                for runs in (ours, theirs)
            )
            if shared:
                gap = [a - b for a, b in zip(*both, strict=True)]
                found.append(Difference(setting, arm, baseline, measure, compute_nested_interval(gap)))
    return found


def count_rollouts_to(curve: Curve, goal: float) -> float:
    """Rollouts after which the curve first stood at `goal`; infinite where it never did, NaN without a goal."""
    spent, right = curve
    hits = np.flatnonzero(right >= goal)
    return nan if np.isnan(goal) else float(spent[hits[0]]) if len(hits) else float("inf")


def select_runs(outcomes: list[Outcome], setting: str, arm: str) -> list[Outcome]:
    """One arm's runs in one setting, by seed."""
    chosen = [run for run in outcomes if (run["job"]["setting"], run["job"]["arm"]) == (setting, arm)]
    return sorted(chosen, key=lambda run: run["job"]["seed"])


def _count_tokens(runs: list[Outcome]) -> dict[str, int]:
    names = dict.fromkeys(name for run in runs for step in run["steps"] for name in step["tokens"])
    return {
        name: round(sum(step["tokens"].get(name, 0) for run in runs for step in run["steps"]) / len(runs))
        for name in names
    }
