"""What `fdt bench signals` runs: settings of the world, arms, learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fdt.bench import base
from fdt.bench.base import BASE, Curve, Outcome
from fdt.bench.compare import Comparison, Difference, count_rollouts_to, select_runs
from fdt.environments.conventions import Conventions, score_answer
from feedback.types import Episode

ARMS = (
    "dspo",
    "scores_anchored",
    "scores_moments",
    "scores_batch",
    "critiques_moments",
    "critiques_forward",
    "scores",
    "critiques",
    "both",
    "faded",
    "gated",
    "rewrites",
    "references",
    "stated",
    "shuffled",
)
SCORES = ("scores", "scores_anchored", "scores_moments", "scores_batch")
CRITIQUES = ("critiques", "critiques_moments", "critiques_forward")
SINGLE = (*SCORES, *CRITIQUES, "rewrites")
"""Arms that learn from one signal alone: the best of them in a setting is what the mix is held against there."""
HEADLINE: dict[str, Any] = {"coverage": 0.6, "noise": 0.1, "score_rate": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "headline": HEADLINE,
    "all_criticise": HEADLINE | {"coverage": 1.0},  # critiques reach everybody: nothing is left for scores alone
    "few_criticise": HEADLINE | {"coverage": 0.25},  # two users of eight: what they teach is wrong for six
    "noisy": HEADLINE | {"noise": 0.4},  # two critiques in five are wrong: are they still worth following?
    "always_wrong": HEADLINE | {"always_wrong": 1},  # one annotator names a wrong convention every time
    "wrong_scores": HEADLINE | {"wrong_score_rate": 0.1},  # one score in ten says the opposite
    "users16": HEADLINE | {"users": 16},  # each convention twice: what is said to one user helps another
    "quarter": HEADLINE | {"score_rate": 0.25},  # scores cost money: one answer in four has one
    "sparse": HEADLINE | {"score_rate": 0.05},  # one in twenty: six of a step's 128
    "unscored": HEADLINE | {"score_rate": 0.0},  # critiques alone: does the mix still learn from them?
}
"""The environment's arguments: coverage and noise of critiques, share of answers that are scored, and who is wrong."""
SCORE_ARGS = ("users", "score_rate", "wrong_score_rate")
CRITIQUE_ARGS = ("users", "coverage", "noise", "always_wrong")
READS = {
    BASE: ("users",),
    **dict.fromkeys(SCORES, SCORE_ARGS),
    **dict.fromkeys(CRITIQUES, CRITIQUE_ARGS),
}
"""What of a setting an arm reads, where that is not all of it: settings that agree in this have one run."""
GRID = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
"""Learning rates tried for every arm, the same for each."""
SCORED_RATES = {
    "dspo": 5e-4,  # as shipped, in every setting
    "scores": 2.5e-4,
    "scores_anchored": 5e-4,
    "scores_moments": 5e-4,
    "scores_batch": 5e-4,
    "critiques": 5e-4,
    "critiques_moments": 2e-3,
    "critiques_forward": 1e-3,
    "both": 1e-3,
    "faded": 5e-4,
    "gated": 5e-4,
    "rewrites": 2.5e-4,
    "references": 5e-4,
    "stated": 1.25e-4,
    "shuffled": 2.5e-4,
}
SPARSE_RATES = SCORED_RATES | {"scores": 1.25e-4, "both": 5e-4}
RATES: dict[str, dict[str, float]] = {
    name: SCORED_RATES if args["score_rate"] == 1.0 else SPARSE_RATES for name, args in SETTINGS.items()
} | {"all_criticise": SCORED_RATES | {"critiques_forward": 5e-4}}
"""Used without `--tune`; chosen on tuning seeds in the headline and the sparse setting, for all of their kind."""
PAIRS = (
    *(("dspo", arm) for arm in SINGLE),
    ("dspo", "both"),
    ("scores", BASE),
    ("critiques", "scores"),
    ("both", "scores"),
    ("both", "critiques"),
    ("faded", "both"),
    ("gated", "both"),
    ("rewrites", "critiques"),
    ("references", "critiques"),
    ("stated", "critiques"),
    ("shuffled", BASE),
)
COVERED_PAIRS = (("critiques", "scores"), ("both", "critiques"), ("dspo", "critiques"))
"""Pairs that are compared once more over the prompts of the users who criticise."""
QUIET_PAIRS = (("dspo", BASE), ("dspo", "scores"), ("both", BASE))
"""Pairs that are compared once more over the prompts of the users who never criticise."""


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
    short_arms = ("dspo", "scores_moments", "critiques_moments", "scores", "both")
    short_settings = ("headline", "sparse")
    baseline = "scores"
    pairs = {"all": PAIRS, "covered": COVERED_PAIRS, "not_covered": QUIET_PAIRS}
    notes = {
        BASE: "the policy before training",
        "dspo": "both signals, algorithm/dspo",
        "scores_anchored": "scores against the batch's mean over its deviation, KL to the start on every row",
        "scores_moments": "scores with the mix's optimiser, anchor and memory, credit by group",
        "scores_batch": "scores with the mix's optimiser, anchor, credit and memory",
        "critiques_moments": "critiques with the mix's optimiser, prefix trust and anchor, by reverse KL",
        "critiques_forward": "the same by forward KL, as in the mix",
        "references": "imitates every right answer: an upper bound, not a competitor",
        "stated": "critiques that are the bare answer",
        "shuffled": "critiques meant for other users: the control",
        "faded": "both at first; the critique's weight is gone after half of the steps",
        "gated": "critique where wrong, else score",
        "rewrites": "imitates its own accepted rewrites",
    }

    def find_equal(self, job: base.Job) -> base.Job:
        read = READS.get(job.arm)
        if read is None:
            return job
        own = [SETTINGS[job.setting].get(name) for name in read]
        first = next(name for name, args in SETTINGS.items() if [args.get(key) for key in read] == own)
        return replace(job, setting=first)

    def compute_values(self, run: Outcome) -> dict[str, NDArray[np.float64]]:
        every = super().compute_values(run)["all"]
        covered = mask_covered(run)
        return {"all": every, "covered": every[covered], "not_covered": every[~covered]}

    def build_tables(self, outcomes: list[Outcome]) -> list[tuple[Sequence[str], list[list[str]]]]:
        """How users fare one by one, and how soon an arm is where the best single arm ends."""
        settings = [name for name in self.settings if any(run["job"]["setting"] == name for run in outcomes)]
        users = ("setting", "arm", "who criticise, %", "who do not, %", "worst user, %", "users 5 points below base")
        soon = ("setting", "arm", "best single arm", "rollouts to 50 % of its end", "to 70 %", "to 90 %")
        return [
            (users, [row for name in settings for row in tabulate_users(self, outcomes, name)]),
            (soon, [row for name in settings for row in tabulate_speed(self, outcomes, name)]),
        ]

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
    args = SETTINGS[run["job"]["setting"]]
    world = Conventions(coverage=args["coverage"], users=args.get("users", 8), world_seed=run["job"]["seed"])
    return np.array([prompt.split("-")[0] in world.critiquing_users for prompt in run["prompts"]])


def average_users(run: Outcome) -> dict[str, float]:
    """Share of right held-out answers for each user."""
    users = np.array([prompt.split("-")[0] for prompt in run["prompts"]])
    right = np.array(run["right"], dtype=np.float64)
    return {user: float(right[users == user].mean()) for user in sorted(set(users))}


def tabulate_users(bench: Comparison, outcomes: list[Outcome], setting: str) -> list[list[str]]:
    """One line an arm: means over seeds of users who criticise and of those who do not, the worst user of any seed, and
    how many users of all seeds ended more than five points below the base."""
    before = {run["job"]["seed"]: average_users(run) for run in select_runs(outcomes, setting, BASE)}
    found = []
    for arm in bench.arms:
        runs = select_runs(outcomes, setting, arm)
        if not runs:
            continue
        users = [average_users(run) for run in runs]
        parts = [bench.compute_values(run) for run in runs]
        means = [
            np.mean([part[name].mean() for part in parts if len(part[name])])
            if any(len(p[name]) for p in parts)
            else np.nan
            for name in ("covered", "not_covered")
        ]
        below = sum(
            value < before[run["job"]["seed"]][user] - 0.05
            for run, own in zip(runs, users, strict=True)
            if run["job"]["seed"] in before
            for user, value in own.items()
        )
        worst = min(min(own.values()) for own in users)
        cells = ["" if np.isnan(mean) else f"{100 * mean:.1f}" for mean in means]
        found.append([setting, arm, *cells, f"{100 * worst:.1f}", f"{below} of {sum(map(len, users))}"])
    return found


def tabulate_speed(bench: Comparison, outcomes: list[Outcome], setting: str) -> list[list[str]]:
    """One line an arm: median rollouts to parts of the best single arm's final level, by the answers while learning."""
    singles = {arm: runs for arm in SINGLE if (runs := select_runs(outcomes, setting, arm))}
    if not singles:
        return []
    ends = {arm: float(np.mean([np.mean(run["right"]) for run in runs])) for arm, runs in singles.items()}
    best = max(ends, key=lambda arm: ends[arm])
    goals = {run["job"]["seed"]: bench.compute_curve(run)[1][-1] for run in singles[best]}
    found = []
    for arm in bench.arms:
        curves = [
            (bench.compute_curve(run), goals.get(run["job"]["seed"])) for run in select_runs(outcomes, setting, arm)
        ]
        known = [(curve, goal) for curve, goal in curves if goal is not None]
        if known:
            cells = [
                format_median([count_rollouts_to(c, part * goal) for c, goal in known]) for part in (0.5, 0.7, 0.9)
            ]
            found.append([setting, arm, best, *cells])
    return found


def format_median(spent: Sequence[float]) -> str:
    """A median of rollouts; never where most runs did not get there."""
    middle = float(np.median(spent))
    return f"{middle:.0f}" if np.isfinite(middle) else "never"
