"""Pictures of a run folder as PNG files: learning curves, before and after, and where the feedback went."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fdt.report import measures
from fdt.report.curves import PANELS, Panel
from fdt.report.runs import Run
from fdt.report.sanitize import make_legible
from fdt.report.table import KINDS, Table

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito 2008, eight colours that stay apart under the common colour blindnesses; yellow is left out, too pale
for a line on white, and black is kept for the base. The line style distinguishes arms without any colour."""
STYLES = ("-", "--", "-.", ":")
BASE_COLOUR = "#6b6b6b"
DROPPED_HATCH = "///"
SIZE = (5.0, 3.1)
"""Inches; about 390 CSS pixels wide, so that type keeps its size on a phone."""
DPI = 160
SMOOTH_FROM = 12
"""Logged steps; shorter curves are drawn as they are."""
LONGEST_LABEL = 28
"""Characters."""

STYLE: Any = {  # matplotlib's stubs know its settings by literal names alone
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
}


def save_figures(runs: list[Run], table: Table, folder: Path) -> dict[str, Path]:
    """Writes every figure that has data into `folder` (made if missing); returns title -> path in reading order."""
    folder.mkdir(parents=True, exist_ok=True)
    # Text is drawn as it is: "$" in a reason or a folder name starts no formula.
    with matplotlib.rc_context({**STYLE, "text.parse_math": False}):
        drawn = {f"Before and after ({kind})": _draw_before_after(table, kind) for kind in table.list_kinds()}
        for panel in select_panels(runs):
            drawn[panel.title] = _draw_curve(runs, panel)
        if any(run.accounting for run in runs):
            drawn["Where the feedback went"] = _draw_ledger(runs)
        return {title: save_figure(figure, folder, title) for title, figure in drawn.items()}


def select_panels(runs: list[Run]) -> list[Panel]:
    """The panels for which some run has two values or more; each loss term has its own."""
    prefix = "train/loss/"
    terms = sorted({column for run in runs for column in run.metrics if column.startswith(prefix)})
    losses = [Panel(column, f"Loss: {column.removeprefix(prefix)}", "over the term's own tokens") for column in terms]
    return [panel for panel in (*PANELS, *losses) if any(len(run.get_series(panel.column)[0]) > 1 for run in runs)]


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean [n] of `values` [n] over about a tenth of the curve; ends use what there is."""
    reach = max(1, len(values) // 20)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def pick_colour(index: int) -> str:
    """Colour of the arm at this position; the palette repeats, the line style then differs."""
    return PALETTE[index % len(PALETTE)]


def create_figure(height: float = SIZE[1]) -> Figure:
    """An empty figure of the report's width, `height` inches high."""
    figure = Figure(figsize=(SIZE[0], height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_curve(runs: list[Run], panel: Panel) -> Figure:
    figure = create_figure()
    axes = figure.add_subplot()
    for index, run in enumerate(runs):
        steps, values = run.get_series(panel.column)
        if not len(steps):
            continue
        style = STYLES[(index // len(PALETTE) + index) % len(STYLES)]
        long = len(values) >= SMOOTH_FROM
        if long:
            axes.plot(steps, values, color=pick_colour(index), alpha=0.25, linewidth=0.9)
        line = smooth(values) if long else values
        marker = "" if long else "o"
        axes.plot(
            steps, line, style + marker, color=pick_colour(index), linewidth=1.9, markersize=4, label=shorten(run.name)
        )
    axes.set(title=panel.title, xlabel="optimiser step", ylabel=panel.unit)
    axes.set_ylim(bottom=0 if panel.column.startswith("answers/") else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(figure, axes)
    return figure


def _draw_before_after(table: Table, kind: str) -> Figure:
    rows = [(row, row.value) for row in table.rows if row.kind == kind and row.value]
    figure = create_figure(1.1 + 0.42 * max(len(rows), 2))
    axes = figure.add_subplot()
    heading, _, _, scale, digits = KINDS[kind]
    arms = [row.name for row, _ in rows if not row.is_base]
    for place, (row, level) in enumerate(rows):
        shade = BASE_COLOUR if row.is_base else pick_colour(arms.index(row.name))
        value = scale * level.mean
        error = np.zeros((2, 1))
        if level.has_bounds:
            error = scale * np.array([[level.mean - level.low], [level.high - level.mean]])
        axes.barh(place, value, color=shade, alpha=0.85, height=0.62)
        axes.errorbar(value, place, xerr=error, color="#1a1a1a", capsize=3, linewidth=1.2)
        end = value + float(np.ravel(error)[1])
        text = f"{value:{digits}}" + (f" ({scale * row.change.mean:+{digits}})" if row.change else "")
        axes.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [shorten(row.name) for row, _ in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.margins(x=0.3)
    axes.set(title="Before and after", xlabel=heading.replace("\n", " "), xlim=(0, None))
    return figure


def _draw_ledger(runs: list[Run]) -> Figure:
    """One bar an arm: rows used (colours) and dropped (greys, hatched), by reason."""
    runs = [run for run in runs if run.accounting]
    figure = create_figure(1.5 + 0.42 * len(runs))
    axes = figure.add_subplot()
    left = np.zeros(len(runs))
    for side in ("used", "dropped"):
        names = dict.fromkeys(why for run in runs for why in measures.get_counts(run.accounting, side))
        greys = np.linspace(0.55, 0.85, max(len(names), 1))
        for index, why in enumerate(names):
            width = np.array([measures.get_counts(run.accounting, side).get(why, 0) for run in runs])
            shade = pick_colour(index) if side == "used" else str(greys[index])
            hatch = None if side == "used" else DROPPED_HATCH
            axes.barh(
                range(len(runs)),
                width,
                left=left,
                color=shade,
                hatch=hatch,
                edgecolor="white",
                height=0.6,
                label=f"{side}: {shorten(why)}",
            )
            left = left + width
    axes.set_yticks(range(len(runs)), [shorten(run.name) for run in runs])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.set(title="Where the feedback went", xlabel="rows of the feedback file")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def shorten(text: str) -> str:
    """One line of at most `LONGEST_LABEL` characters."""
    text = " ".join(make_legible(text).split())
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def save_figure(figure: Figure, folder: Path, title: str) -> Path:
    """Writes the figure as PNG under its title in small letters; returns the path."""
    path = folder / f"{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}.png"
    figure.savefig(path, metadata={"Software": None})
    return path
