"""The picture of the calibration panel: how often answers are right that state this confidence, and how many do."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from fdt.report.figures import BASE_COLOUR, STYLE, create_figure, pick_colour, save_figure, shorten
from fdt.report.panels.calibration import Calibration
from fdt.statistics.calibration import BINS, bin_answers

TITLE = "Calibration"
LEVEL = 1.96
"""Standard errors to either side of a 95 % interval."""


def save_reliability(found: list[Calibration], folder: Path) -> dict[str, Path]:
    """One figure an arm, with its base in grey, written into `folder`; returns title -> path."""
    arms = list(dict.fromkeys(one.arm for one in found if not one.is_base)) or list(dict.fromkeys(o.arm for o in found))
    bases = [one for one in found if one.is_base]
    paths = {}
    with matplotlib.rc_context({**STYLE, "text.parse_math": False}):
        for index, arm in enumerate(arms):
            own = [one for one in bases if one.arm == arm] or bases[:1]
            shown = own + [one for one in found if one.arm == arm and not one.is_base]
            figure = create_figure(5.2)
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
            _draw_reliability(upper, shown, index)
            _draw_histogram(lower, shown, index)
            upper.set_title(f"{TITLE}: {shorten(arm)}")
            paths[f"{TITLE}: {arm}"] = save_figure(figure, folder, f"{TITLE} {index + 1} {arm}")
    return paths


def wilson(right: float, count: float) -> tuple[float, float]:
    """The 95 % score interval of a share `right` in [0, 1] over `count` answers (Wilson 1927)."""
    centre = right + LEVEL**2 / (2 * count)
    reach = LEVEL * sqrt(right * (1 - right) / count + LEVEL**2 / (4 * count**2))
    return (centre - reach) / (1 + LEVEL**2 / count), (centre + reach) / (1 + LEVEL**2 / count)


def _draw_reliability(axes: Axes, shown: list[Calibration], index: int) -> None:
    axes.plot([0, 1], [0, 1], ":", color="#8a8a8a", linewidth=1, label="as sure as right")
    for one in shown:
        bins = bin_answers(one.confidence, one.correct)
        ends = np.array([wilson(*pair) for pair in zip(bins.right.tolist(), bins.counts.tolist(), strict=True)])
        errors = np.abs(ends.T - bins.right)
        shade = BASE_COLOUR if one.is_base else pick_colour(index)
        axes.errorbar(
            bins.stated,
            bins.right,
            yerr=errors,
            fmt="o-" if one.is_base else "s-",
            color=shade,
            capsize=2,
            linewidth=1.6,
            elinewidth=0.8,
            markersize=5,
            label=shorten(one.label),
        )
    axes.set(ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper left")


def _draw_histogram(axes: Axes, shown: list[Calibration], index: int) -> None:
    colours = [BASE_COLOUR if one.is_base else pick_colour(index) for one in shown]
    # The same nudge as in `bin_answers`: a stated 0.3 belongs to the bin that starts there.
    columns = [np.minimum(one.confidence + 1e-9, 1) for one in shown]
    weights = [np.full(len(column), 1 / len(column)) for column in columns]
    axes.hist(columns, bins=np.linspace(0, 1, BINS + 1).tolist(), weights=weights, color=colours, rwidth=0.9)
    axes.set(xlabel="stated confidence", ylabel="share of answers")
