"""What runs under other curricula came to: the transfer matrix, predicted ends, measured ends, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdt.bench.transfer.jobs import Scores
from fdt.rollout.curricula.transfer import TransferMatrix, predict_finals, predict_mean, rank_orders
from fdt.statistics.intervals import Interval
from fdt.statistics.nested import compute_nested_interval

MEAN = "mean"
"""The measure that is the mean over data sets of each one's mean, however many prompts each has."""


@dataclass(frozen=True)
class Measured:
    """A run's held-out scores before and after it, by data set and prompt."""

    before: Scores
    after: Scores


def build_matrix(singles: dict[str, list[Measured]]) -> tuple[TransferMatrix, dict[str, dict[str, Interval]]]:
    """The matrix from runs on one data set each, and the interval of each change, of a data set by itself too.

    Args:
        singles: for each data set the runs on it alone, one a seed.
    """
    names = list(singles)
    changes = {
        trained: {measured: _compute_interval([_compare(run, measured) for run in runs]) for measured in names}
        for trained, runs in singles.items()
    }
    every = [run for runs in singles.values() for run in runs]
    start = {name: _average([list(run.before[name].values()) for run in every]) for name in names}
    saturation = {name: _average([list(run.after[name].values()) for run in singles[name]]) for name in names}
    transfer = {i: {j: changes[i][j].mean for j in names if j != i} for i in names}
    return TransferMatrix(saturation, transfer, start), changes


def compute_ends(runs: list[Measured]) -> dict[str, Interval]:
    """The score of each data set after these runs, and `MEAN` of them."""
    names = list(runs[0].after)
    ends = {name: _compute_interval([np.array(list(run.after[name].values())) for run in runs]) for name in names}
    return ends | {MEAN: _compute_interval([_spread_evenly(run.after) for run in runs])}


def compute_gaps(runs: list[Measured], others: list[Measured]) -> dict[str, Interval]:
    """By how much these runs end above others of the same seeds, prompt by prompt, in each data set and in `MEAN`."""
    gaps = [
        {name: {key: score - two.after[name][key] for key, score in own.items()} for name, own in one.after.items()}
        for one, two in zip(runs, others, strict=True)
    ]
    found = {name: _compute_interval([np.array(list(gap[name].values())) for gap in gaps]) for name in gaps[0]}
    return found | {MEAN: _compute_interval([_spread_evenly(gap) for gap in gaps])}


def write_tables(
    matrix: TransferMatrix,
    changes: dict[str, dict[str, Interval]],
    arms: dict[str, list[Measured]],
    stages: Mapping[str, Sequence[Sequence[str]]],
    baseline: str,
) -> str:
    """The report, as Markdown: all numbers in points of 100.

    Args:
        stages: of each arm, to set what was predicted beside what was measured.
        baseline: the arm that differences are against.
    """
    names = list(matrix.saturation)
    lines = ["Change of the score, in points, by training on one data set alone:", ""]
    lines += _draw_row(["trained on", *names]) + _draw_rule(len(names) + 1)
    lines += _draw_row(["(score at the start)", *(f"{100 * matrix.start[name]:.1f}" for name in names)])
    for trained in names:
        lines += _draw_row([trained, *(_format(changes[trained][measured], "+.1f") for measured in names)])
    lines += ["", "Predicted ends of every order:", ""]
    lines += _draw_row(["order", *names, MEAN]) + _draw_rule(len(names) + 2)
    for order in rank_orders(matrix, names):
        finals = predict_finals(matrix, order)
        cells = [*(finals[name] for name in names), predict_mean(matrix, order)]
        lines += _draw_row([" -> ".join(order), *(f"{100 * value:.1f}" for value in cells)])
    if arms:
        lines += ["", "Measured ends:", ""]
        heading = ["arm", "stages", *names, MEAN, f"{MEAN} - {baseline}", "predicted mean"]
        lines += _draw_row(heading) + _draw_rule(len(heading))
    for arm, runs in arms.items():
        ends = compute_ends(runs)
        gap = "" if arm == baseline else _format(compute_gaps(runs, arms[baseline])[MEAN], "+.1f")
        told = " -> ".join("+".join(stage) for stage in stages[arm])
        alone = all(len(stage) == 1 for stage in stages[arm])
        predicted = f"{100 * predict_mean(matrix, [stage[0] for stage in stages[arm]]):.1f}" if alone else ""
        lines += _draw_row([arm, told, *(_format(ends[name], ".1f") for name in [*names, MEAN]), gap, predicted])
    return "\n".join(lines) + "\n"


def build_summary(arms: dict[str, list[Measured]], baseline: str) -> dict[str, Any]:
    """The measured ends and differences as plain values: mean, low and high."""
    found: dict[str, Any] = {}
    for arm, runs in arms.items():
        found[arm] = {"ends": {name: _pack(value) for name, value in compute_ends(runs).items()}}
        if arm != baseline:
            gaps = compute_gaps(runs, arms[baseline])
            found[arm][f"less {baseline}"] = {name: _pack(value) for name, value in gaps.items()}
    return found


def write_text(path: Path, text: str) -> None:
    """Writes a text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _compare(run: Measured, name: str) -> NDArray[np.float64]:
    return np.array([score - run.before[name][key] for key, score in run.after[name].items()])


def _compute_interval(seeds: Sequence[NDArray[np.float64]]) -> Interval:
    return compute_nested_interval(seeds)


def _average(seeds: list[list[float]]) -> float:
    return float(np.mean([np.mean(seed) for seed in seeds]))


def _spread_evenly(scores: Scores) -> NDArray[np.float64]:
    """All prompts' values, scaled so that their mean is the mean over data sets of the data sets' means."""
    total = sum(map(len, scores.values()))
    parts = [np.array(list(own.values())) * total / (len(scores) * len(own)) for own in scores.values()]
    return np.concatenate(parts)


def _pack(value: Interval) -> list[float]:
    return [value.mean, value.low, value.high]


def _format(value: Interval, form: str) -> str:
    mean, low, high = (format(100 * number, form) for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _draw_row(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _draw_rule(count: int) -> list[str]:
    return ["|" + "---|" * count]
