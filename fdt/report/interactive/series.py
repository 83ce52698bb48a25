"""Numbers of the learning curves as the page's script reads them."""

from __future__ import annotations

from typing import Any

from fdt.report.arms import Arm
from fdt.report.curves import Panel
from fdt.report.figures import PALETTE, select_panels
from fdt.report.runs import Run

DIGITS = 6
"""Significant digits of a number in the page."""
SKIPPED = ("step", "epoch")


def build_series(runs: list[Run], arms: list[Arm]) -> dict[str, Any]:
    """``runs`` (name, arm, seed), ``arms`` (name, colour) and ``panels``: a title, a unit, and x and y of each run.

    The panels that the report draws come first and are marked ``main``; every other logged column follows.
    """
    pairs = ((n, run, seed) for n, arm in enumerate(arms) for run, seed in zip(arm.runs, arm.seeds, strict=True))
    places = {id(run): (number, seed) for number, run, seed in pairs}
    return {
        "arms": [{"name": arm.name, "colour": PALETTE[n % len(PALETTE)]} for n, arm in enumerate(arms)],
        "runs": [{"name": run.name, "arm": places[id(run)][0], "seed": places[id(run)][1]} for run in runs],
        "panels": [_build_panel(runs, panel, is_main) for panel, is_main in list_panels(runs)],
    }


def list_panels(runs: list[Run]) -> list[tuple[Panel, bool]]:
    """Every column that some run logged twice or more, with whether it is among those that the report draws."""
    main = select_panels(runs)
    shown = {panel.column for panel in main}
    columns = dict.fromkeys(column for run in runs for column in run.metrics)
    rest = sorted(column for column in columns if column not in shown and column not in SKIPPED)
    others = [Panel(column, column.removeprefix("train/"), "") for column in rest if is_logged(runs, column)]
    return [(panel, True) for panel in main] + [(panel, False) for panel in others]


def is_logged(runs: list[Run], column: str) -> bool:
    """Whether some run has two values of it or more."""
    return any(len(run.get_series(column)[0]) > 1 for run in runs)


def round_number(value: float) -> float:
    """`DIGITS` significant digits: what a screen can show, and a third of the bytes."""
    return float(f"{value:.{DIGITS}g}")


def _build_panel(runs: list[Run], panel: Panel, is_main: bool) -> dict[str, Any]:
    lines = []
    for number, run in enumerate(runs):
        steps, values = run.get_series(panel.column)
        if len(steps):
            lines.append({"run": number, "x": steps.tolist(), "y": [round_number(value) for value in values.tolist()]})
    unit = panel.unit or "as logged"
    return {"column": panel.column, "title": panel.title, "unit": unit, "main": is_main, "lines": lines}
