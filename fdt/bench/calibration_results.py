"""From outcomes to claims about stated confidence: levels, paired differences and verdicts, over prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np
from numpy.typing import NDArray

from fdt.bench.base import BASE, Outcome
from fdt.bench.calibration import ARMS, ConfidenceJob
from fdt.environments.conventions import Conventions
from fdt.statistics.calibration import auroc, debiased_ece
from fdt.statistics.intervals import SEED, Interval
from fdt.statistics.nested import compute_draws_interval

ORACLE = "oracle"
"""Who knows every user's habit and chance: what there is to reach."""
DRAWS = 300
"""Resamples of one run's prompts, from which those of all seeds are put together."""
MARGIN = 0.02
"""Accuracies this close count as equal."""
USEFUL = 0.6
"""An AUROC from here on counts as separating right answers from wrong ones."""
PAIRS = (
    ("plain", BASE),
    ("brier", "plain"),
    ("brier_and_critiques", "brier"),
    ("split", "brier"),
    ("split", "brier_and_critiques"),
    ("brier_and_critiques", "critiques"),
    ("mix", "brier"),
    ("critiques", "plain"),
)

Values = NDArray[np.float64]
Draws = dict[str, dict[int, dict[str, Values]]]
"""By arm, seed and measure: values [1 + DRAWS]."""
MEASURES: dict[str, Callable[[Values, Values], float]] = {
    "right": lambda q, c: float(c.mean()),
    "stated": lambda q, c: float(q.mean()),
    "brier": lambda q, c: float(((q - c) ** 2).mean()),
    "ece": debiased_ece,
    "auroc": auroc,
}
"""What is measured of confidences q [P] and outcomes c [P]."""


@dataclass(frozen=True)
class Level:
    """One arm."""

    arm: str
    numbers: dict[str, Interval]
    """By measure; `stated` is the mean confidence."""
    unread: float
    """Share of the answers whose confidence could not be read; they count as stating 0, as in RLCR's evaluation."""
    seconds: float


@dataclass(frozen=True)
class Difference:
    """One arm minus another over the same prompts and seeds."""

    arm: str
    baseline: str
    numbers: dict[str, Interval]


@dataclass(frozen=True)
class Answer:
    """A question, the number that decides it, and what its interval allows to conclude."""

    question: str
    number: str
    value: Interval
    verdict: str


def resample_runs(outcomes: list[Outcome]) -> Draws:
    """Each run's measures, over all of its prompts first and then over `DRAWS` resamples of them.

    A seed's resamples are the same for every arm, so that arms can be subtracted draw by draw.
    """
    found: Draws = {}
    for run in outcomes:
        arm = run["job"]["arm"]
        seed = run["job"]["seed"]
        found.setdefault(arm, {})[seed] = _resample(*get_confidences(run))
        if arm == BASE:
            found.setdefault(ORACLE, {})[seed] = _resample(*simulate_oracle(run))
    return found


def compute_levels(outcomes: list[Outcome], draws: Draws) -> list[Level]:
    """One row an arm, the base first and the oracle last."""
    found = []
    for arm in (BASE, *ARMS, ORACLE):
        runs = [run for run in outcomes if run["job"]["arm"] == arm]
        if arm in draws:
            unread = [value is None for run in runs for value in run["confidence"]]
            found.append(
                Level(
                    arm,
                    {name: _combine(draws, {arm: 1.0}, name) for name in MEASURES},
                    float(np.mean(unread)) if runs else 0.0,
                    sum(r["seconds"] for r in runs) / len(runs) if runs else nan,
                )
            )
    return found


def compute_differences(draws: Draws) -> list[Difference]:
    """The stated pairs, paired by seed and prompt, as far as both arms were run from the same seeds."""
    return [
        Difference(arm, baseline, {name: _combine(draws, {arm: 1.0, baseline: -1.0}, name) for name in MEASURES})
        for arm, baseline in PAIRS
        if _find_shared_seeds(draws, (arm, baseline))
    ]


def answer_questions(draws: Draws) -> list[Answer]:
    """The questions of the bench, as far as the arms that they need were run."""
    found = []
    for question in QUESTIONS:
        if _find_shared_seeds(draws, tuple(question.weights)):
            value = _combine(draws, question.weights, question.measure)
            found.append(Answer(question.text, question.number, value, question.rule(value)))
    return found


# An unknown interval is NaN at both ends, and no comparison with NaN holds: undecided.
def decide_above(bound: float, value: Interval) -> str:
    """Whether a value lies above a bound: yes, no or undecided, by its interval."""
    if value.low > bound:
        return "yes"
    return "no" if value.high < bound else "undecided"


def decide_below(value: Interval) -> str:
    """Whether a value is at most 0."""
    if value.high <= 0:
        return "yes"
    return "no" if value.low > 0 else "undecided"


def decide_within(value: Interval) -> str:
    """Whether a difference is smaller than the margin either way."""
    if value.low > -MARGIN and value.high < MARGIN:
        return "yes"
    return "no" if value.low > MARGIN or value.high < -MARGIN else "undecided"


@dataclass(frozen=True)
class Question:
    """A question of the bench, and how it is decided."""

    text: str
    number: str
    """What the weighted sum is, in words."""
    measure: str
    weights: dict[str, float]
    """By arm."""
    rule: Callable[[Interval], str]
    """From the sum's interval to yes, no or undecided."""


QUESTIONS = (
    Question(
        "Is the Brier reward's ECE at most half of plain correctness's?",
        "ECE brier - ECE plain / 2",
        "ece",
        {"brier": 1.0, "plain": -0.5},
        decide_below,
    ),
    Question(
        "Do its confidences separate right answers from wrong ones (AUROC above 0.6)?",
        "AUROC brier",
        "auroc",
        {"brier": 1.0},
        partial(decide_above, USEFUL),
    ),
    Question(
        "Is its accuracy that of plain correctness, within 2 points?",
        "right brier - right plain",
        "right",
        {"brier": 1.0, "plain": -1.0},
        decide_within,
    ),
    Question(
        "Does plain correctness teach to state more?",
        "stated plain - stated base",
        "stated",
        {"plain": 1.0, BASE: -1.0},
        partial(decide_above, 0.0),
    ),
    Question(
        "Do critiques from a sure teacher damage calibration beside a Brier reward?",
        "ECE brier_and_critiques - ECE brier",
        "ece",
        {"brier_and_critiques": 1.0, "brier": -1.0},
        partial(decide_above, 0.0),
    ),
    Question(
        "Do they where the teacher does not train the confidence?",
        "ECE split - ECE brier",
        "ece",
        {"split": 1.0, "brier": -1.0},
        partial(decide_above, 0.0),
    ),
    Question(
        "Do critiques alone leave it worse than plain correctness?",
        "ECE critiques - ECE plain",
        "ece",
        {"critiques": 1.0, "plain": -1.0},
        partial(decide_above, 0.0),
    ),
)


def get_confidences(run: Outcome) -> tuple[Values, Values]:
    """Confidences [P] and outcomes [P] of a run; what could not be read counts as 0."""
    confidence = [0.0 if value is None else value for value in run["confidence"]]
    return np.array(confidence), np.array(run["right"], dtype=np.float64)


def simulate_oracle(run: Outcome) -> tuple[Values, Values]:
    """What the oracle states for the same prompts [P], and whether it is right [P], by a draw of its own."""
    whims = Conventions(**ConfidenceJob(**run["job"]).build_environment_args()).switch_chances
    sure = np.array([1 - whims[prompt.split("-")[0]] for prompt in run["prompts"]])
    return sure, (np.random.default_rng(SEED).random(len(sure)) < sure).astype(np.float64)


def _resample(q: Values, c: Values) -> dict[str, Values]:
    rng = np.random.default_rng(SEED)
    places = [np.arange(len(q)), *(rng.integers(0, len(q), len(q)) for _ in range(DRAWS))]
    return {name: np.array([measure(q[place], c[place]) for place in places]) for name, measure in MEASURES.items()}


def _combine(draws: Draws, weights: dict[str, float], measure: str) -> Interval:
    """A weighted sum of one measure over arms, seed by seed; unknown where the measure is (as with no right answer)."""
    seeds = sorted(_find_shared_seeds(draws, tuple(weights)))
    each = [np.sum([weight * draws[arm][seed][measure] for arm, weight in weights.items()], axis=0) for seed in seeds]
    if not all(np.isfinite(own).all() for own in each):
        return Interval(nan, nan, nan)
    return compute_draws_interval([own[0] for own in each], [own[1:] for own in each])


def _find_shared_seeds(draws: Draws, arms: Sequence[str]) -> set[int]:
    """The seeds from which all of these arms were run."""
    return set.intersection(*(set(draws.get(arm, {})) for arm in arms))
