"""Trends read off the training answers themselves: how much they repeat, and whether they mention the feedback."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import nan

import numpy as np

from fdt.report.measures import get_episode_key
from fdt.report.runs import Record, Run
from feedback.text_metrics import compute_repetition, has_leak

COLUMNS = ("answers/repetition", "answers/hint_leak")


def add_trends(run: Run) -> Run:
    """The run with two more columns of metrics, means over the answers of a step; the run itself without answers."""
    found: dict[tuple[float, str], tuple[float, float]] = {}
    for record in run.read_transcripts():  # what a resumed run wrote last counts
        found[get_episode_key(record)] = _measure_answer(record)
    steps: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for (step, _), measured in found.items():
        if step >= 0:
            steps[step].append(measured)
    means = {step: np.array(answers).mean(axis=0) for step, answers in steps.items()}
    logged = run.metrics.get("step", np.empty(0))
    order = np.union1d(logged, np.array(list(means)))
    place = np.searchsorted(order, logged)
    metrics = {"step": order}
    for column, values in run.metrics.items():
        if column != "step":
            metrics[column] = np.full(len(order), nan)
            metrics[column][place] = values
    for index, column in enumerate(COLUMNS):
        metrics[column] = np.array([means[step][index] if step in means else nan for step in order])
    return replace(run, metrics=metrics) if means else run


def _measure_answer(record: Record) -> tuple[float, float]:
    answer, prompt, critique = (str(record.get(name) or "") for name in ("response", "prompt", "critique"))
    return compute_repetition(answer), float(has_leak(answer, prompt, critique))
