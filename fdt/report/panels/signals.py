"""How the terms of a loss shared the training: tokens, gradient norms, their cosines, and trust in annotators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from fdt.report.runs import Run

PREFIX = "train/signals/"
PARTS = {
    "tokens": "tokens a step",
    "grad_norm": "gradient norm",
    "cosine": "cosine of two gradients",
    "trust": "trust in an annotator's critiques",
}
"""Groups of metrics under the prefix, and what their numbers are."""


@dataclass(frozen=True)
class Line:
    """One number: its means over the first, the middle and the last third of the steps that logged it."""

    what: str
    name: str
    early: float
    middle: float
    late: float


@dataclass(frozen=True)
class Signals:
    """The lines of one run."""

    run: str
    lines: list[Line]


def build_signals(run: Run) -> Signals:
    """The lines of a run, group by group; none where it logged nothing of the kind."""
    return Signals(run.name, [line for part in PARTS for line in list_lines(run, part)])


def list_lines(run: Run, part: str) -> Iterator[Line]:
    """The lines of one group of metrics, by name."""
    prefix = f"{PREFIX}{part}/"
    for column in sorted(name for name in run.metrics if name.startswith(prefix)):
        _, values = run.get_series(column)
        if not len(values):
            continue
        third = max(1, len(values) // 3)
        parts = (values[:third], values[third : len(values) - third], values[len(values) - third :])
        early, middle, late = (float(each.mean()) if len(each) else float(values.mean()) for each in parts)
        name = column.removeprefix(prefix)
        yield Line(PARTS[part], name.replace("_", " and ") if part == "cosine" else name, early, middle, late)


def format_number(value: float) -> str:
    """Three digits that matter; tokens as whole numbers."""
    if not isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
