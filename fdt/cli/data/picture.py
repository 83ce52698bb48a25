"""The picture of `fdt data stats`: ratings of each name, lengths of texts, shares of sources."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fdt.cli.data.histogram import EXACT
from fdt.cli.data.tally import Tally
from fdt.report.figures import STYLE, pick_colour, shorten

MOST = 5  # annotators drawn side by side for one name
NAMES = 4  # names with a panel
BINS = 20


def draw_picture(tally: Tally, title: str, out: str | Path) -> None:
    """Writes the picture to `out`, in the format of its ending.

    Raises:
        OSError: `out` cannot be written.
        ValueError: the ending names no format.
    """
    names = list(dict.fromkeys((name, scale) for name, _, scale in tally.scores))[:NAMES]
    with matplotlib.rc_context({**STYLE, "text.parse_math": False}):
        panels = len(names) + 2
        figure = Figure(figsize=(10, 3.1 * ceil(panels / 2)), dpi=160, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        figure.suptitle(shorten(title), x=0.01, ha="left", fontsize=12)
        axes = figure.subplots(ceil(panels / 2), 2, squeeze=False).ravel()
        for place, (name, scale) in zip(axes, names, strict=False):
            _draw_scores(place, tally, name, scale)
        _draw_lengths(axes[len(names)], tally)
        _draw_sources(axes[len(names) + 1], tally)
        for empty in axes[panels:]:
            empty.set_axis_off()
        figure.savefig(out, metadata={"Software": None} if str(out).lower().endswith(".png") else None)


def _draw_scores(axes: Axes, tally: Tally, name: str, scale: tuple[float, float] | None) -> None:
    """Shares of each rating, one colour an annotator."""
    judges = {judge: found for judge, found in tally.scores.items() if (judge[0], judge[2]) == (name, scale)}
    shown = sorted(judges.items(), key=lambda pair: -pair[1].count)[:MOST]
    ratings = sorted({value for _, histogram in shown for value in histogram.values})
    few = len(ratings) <= EXACT
    edges = np.arange(len(ratings) + 1) - 0.5 if few else np.linspace(ratings[0], ratings[-1], BINS + 1)
    columns = [[ratings.index(value) if few else value for value in histogram.values] for _, histogram in shown]
    weights = [np.array(list(histogram.values.values())) / histogram.count for _, histogram in shown]
    labels = [f"{shorten(str(who or 'nobody named'))} ({histogram.count})" for (_, who, _), histogram in shown]
    colours = [pick_colour(n) for n in range(len(shown))]
    heights, *_ = axes.hist(columns, bins=edges.tolist(), weights=weights, label=labels, color=colours, rwidth=0.85)
    axes.set_ylim(0, np.max(heights) * (1.15 + 0.08 * len(shown)))  # room for the legend
    if few:
        axes.set_xticks(range(len(ratings)), [f"{rating:g}" for rating in ratings])
    more = f", {len(judges) - MOST} more not drawn" if len(judges) > MOST else ""
    axes.set(title=f"Ratings: {shorten(name)}{more}", xlabel="rating", ylabel="share of the annotator's ratings")
    axes.legend()


def _draw_lengths(axes: Axes, tally: Tally) -> None:
    """Distribution of each kind of text over logarithmic bins."""
    for index, (name, lengths) in enumerate(tally.lengths.items()):
        if lengths.values:
            values = np.array(list(lengths.values))
            counts = np.array(list(lengths.values.values()))
            edges = np.geomspace(1, max(values.max(), 2) * 1.01, BINS + 1)
            axes.hist(
                values,
                bins=edges.tolist(),
                weights=counts / counts.sum(),
                histtype="step",
                linewidth=1.8,
                color=pick_colour(index),
                label=f"{name} ({counts.sum()})",
            )
    axes.set(title="Lengths", xscale="log", xlabel="characters", ylabel="share of the texts")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))  # the default is a formula
    axes.legend()


def _draw_sources(axes: Axes, tally: Tally) -> None:
    parts = tally.sources.most_common()
    axes.barh(
        range(len(parts)), [count for _, count in parts], color=[pick_colour(n) for n in range(len(parts))], height=0.6
    )
    axes.set_ylim(-0.5, max(len(parts), 4) - 0.5)  # one source is a bar, not a wall
    axes.set_yticks(range(len(parts)), [shorten(name) for name, _ in parts])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.set(title="Feedback by source", xlabel="judgements")
