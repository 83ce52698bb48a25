"""A bench in the terminal, as Markdown, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from fdt.bench.base import BASE
from fdt.bench.compare import MARGIN, Comparison, Difference, Level, Result, select_runs

Table = tuple[Sequence[str], list[list[str]]]
"""Heading, and lines of cells."""
DIFFERENCES = ("setting", "over", "arm", "minus", "points [95 %]", "which is")


def build_tables(found: Result) -> list[Table]:
    """Levels, differences, and the bench's further tables."""
    words = found.bench.words
    baseline = found.bench.baseline
    level = ("setting", "arm", f"{words['level']}, % [95 %]", f"rollouts to where {baseline} ended", "rollouts")
    return [
        ((*level, "tokens weighted, thousand", "rate", "s"), [format_level(row) for row in found.levels]),
        (DIFFERENCES, [format_difference(gap) for gap in found.differences]),
        *found.bench.build_tables(found.outcomes),
    ]


def format_level(row: Level) -> list[str]:
    """One line of the first table."""
    tokens = ", ".join(f"{name} {count / 1000:.0f}" for name, count in row.tokens.items())
    plain = [row.rollouts, tokens, f"{row.rate:g}", f"{row.seconds:.0f}"]
    base = row.arm == BASE
    return [
        row.setting,
        row.arm,
        format_cell(row.right),
        "" if base else _format_reached(row.rollouts_to_baseline),
        *("" if base else str(cell) for cell in plain[:3]),
        str(plain[3]),
    ]


def format_difference(gap: Difference) -> list[str]:
    """One line of the second table."""
    return [gap.setting, gap.measure, gap.arm, gap.baseline, format_cell(gap.value, "+.1f"), gap.verdict]


def build_notes(found: Result) -> list[str]:
    """What a reader of the tables must know, the fallen guards first."""
    bench = found.bench
    seeds = sorted({run["job"]["seed"] for run in found.outcomes})
    prompts = sorted({len(run["right"]) for run in found.outcomes})
    notes = [f"GUARD FELL: {line}" for line in found.failures]
    notes += [
        f"{name}: {', '.join(f'{key} {format_setting(value)}' for key, value in bench.settings[name].items())}"
        for name in found.settings
    ]
    notes += [f"{arm}: {text}" for arm, text in bench.notes.items() if any(row.arm == arm for row in found.levels)]
    notes.append(
        f"{len(seeds)} seeds x {'/'.join(map(str, prompts))} held-out prompts ({bench.words['prompts']}); "
        "intervals resample seeds, then prompts; differences are paired by seed and prompt"
    )
    rates = ", ".join(map("{:g}".format, bench.grid))
    notes.append(f"at least as good: lower end above -{100 * MARGIN:g} points; rates from {rates}")
    return notes


def format_setting(value: Any) -> str:
    """A setting's value; of a path its last name."""
    if isinstance(value, str):
        return value.rpartition(".")[2]
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def as_markdown(found: Result) -> str:
    """All tables and the notes."""
    parts = []
    for header, lines in build_tables(found):
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in build_notes(found))]) + "\n"


def as_json(found: Result) -> str:
    """Everything: outcomes with each verdict and step, levels, differences, guards."""
    content = {
        "levels": [asdict(row) for row in found.levels],
        "differences": [asdict(gap) | {"verdict": gap.verdict} for gap in found.differences],
        "guards_fallen": found.failures,
        "outcomes": found.outcomes,
    }
    return json.dumps(_replace_nonfinite(content), allow_nan=False) + "\n"


def print_results(found: Result) -> None:
    """Prints all tables and the notes."""
    print_tables(build_tables(found), build_notes(found))


def print_tables(tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]], notes: Sequence[str]) -> None:
    """Prints tables, each a header and lines of cells, and the notes below them."""
    from rich.table import Table as Grid
    from rich.text import Text

    from fdt.report.table import build_console

    console = build_console()
    for header, lines in tables:
        grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for heading in header:
            grid.add_column(Text(heading))
        for cells in lines:
            grid.add_row(*map(Text, cells))
        console.print(grid)
        console.print()
    for note in notes:
        console.print(note, markup=False, highlight=False)


def draw_picture(found: Result, path: Path) -> None:
    """For each setting the learning curves (mean over seeds, and a band) beside the held-out levels."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fdt.report.figures import STYLE

    with matplotlib.rc_context(STYLE):
        size = (10, 3.9 * len(found.settings))
        figure = Figure(figsize=size, dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(found.settings), 2, squeeze=False, width_ratios=(1.25, 1))
        for (left, right), setting in zip(panels, found.settings, strict=True):
            draw_curves(left, found, setting)
            _draw_bars(right, found.bench, [row for row in found.levels if row.setting == setting])
        figure.savefig(path, metadata={"Software": None})


def draw_curves(axes: Any, found: Result, setting: str) -> None:
    """Draws how the arms of one setting learned."""
    bench = found.bench
    for arm in bench.arms:
        runs = select_runs(found.outcomes, setting, arm)
        if runs:
            spent = bench.compute_curve(runs[0])[0]
            shares = np.array([bench.compute_curve(run)[1] for run in runs])
            low, high = bench.compute_band(runs)
            shade = pick_colour(arm, bench.arms)
            style = _pick_style(arm, bench.arms)
            axes.fill_between(spent, 100 * low, 100 * high, color=shade, alpha=0.12, linewidth=0)
            axes.plot(spent, 100 * shares.mean(0), style, color=shade, linewidth=1.9, label=arm)
    axes.set(title=f"{setting}: {bench.words['curve']}", xlabel="rollouts", ylabel=bench.words["share"], ylim=(0, 100))
    axes.legend(loc="upper left", ncols=2)


def _draw_bars(axes: Any, bench: Comparison, rows: list[Level]) -> None:
    for place, row in enumerate(rows):
        value, low, high = (100 * end for end in (row.right.mean, row.right.low, row.right.high))
        axes.barh(place, value, color=pick_colour(row.arm, bench.arms), alpha=0.85, height=0.65)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], color="#1a1a1a", capsize=3, linewidth=1.2)
        axes.annotate(f"{value:.0f}", (high, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.set(title=bench.words["bars"], xlabel=f"{bench.words['level']}, % [95 % interval]", xlim=(0, 108))


def pick_colour(arm: str, arms: Sequence[str]) -> str:
    """The arm's colour in every picture of its bench, by its place among the bench's ``arms``."""
    from fdt.report.figures import BASE_COLOUR, PALETTE

    return BASE_COLOUR if arm in (BASE, "shuffled") else PALETTE[arms.index(arm) % len(PALETTE)]


def _pick_style(arm: str, arms: Sequence[str]) -> str:
    return ("-", "--", "-.")[arms.index(arm) % 3] if arm != "shuffled" else ":"


def format_cell(value: Any, digits: str = ".1f") -> str:
    """A share and its interval, in per cent."""
    low, high = (f"{100 * end:{digits}}" if isfinite(end) else "–" for end in (value.low, value.high))
    return f"{100 * value.mean:{digits}} [{low}, {high}]"


def _format_reached(spent: list[float]) -> str:
    """Median over seeds, and how many seeds got there; nothing where the baseline was not run."""
    if all(map(isnan, spent)):
        return ""
    middle = float(np.median(spent))
    reached = sum(map(isfinite, spent))
    text = f"{middle:.0f}" if isfinite(middle) else "never"
    return text if reached == len(spent) else f"{text} ({reached}/{len(spent)})"


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
