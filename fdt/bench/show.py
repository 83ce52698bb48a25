"""A bench in the terminal, as Markdown, as JSON and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fdt.bench.plan import ARMS, BASE, GRID, SETTINGS
from fdt.bench.results import MARGIN, Difference, Level, Outcome, curve, deceived

LEVELS = ("setting", "arm", "right, % [95 %]", "rollouts to scores' end", "rollouts", "tokens heard, thousand", "rate", "s")
DIFFERENCES = ("setting", "prompts", "arm", "minus", "points [95 %]", "which is")
NAMED = {
    BASE: "the policy before training",
    "references": "shown every right answer: a bound, not a rival",
    "stated": "critiques that are the bare answer",
    "shuffled": "critiques meant for other users: the control",
    "gated": "critique where wrong, else score",
    "rewrites": "imitates its own accepted rewrites",
}


def level_cells(row: Level) -> list[str]:
    """One line of the first table."""
    tokens = ", ".join(f"{name} {count / 1000:.0f}" for name, count in row.tokens.items())
    plain = [row.rollouts, tokens, f"{row.rate:g}", f"{row.seconds:.0f}"]
    base = row.arm == BASE
    return [row.setting, row.arm, _interval(row.right, ".1f"), "" if base else _reached(row.reached),
            *("" if base else str(cell) for cell in plain[:3]), str(plain[3])]  # fmt: skip


def difference_cells(gap: Difference) -> list[str]:
    """One line of the second table."""
    return [gap.setting, gap.prompts, gap.arm, gap.than, _interval(gap.value, "+.1f"), gap.verdict]


def notes(found: list[Outcome], rows: list[Level], gaps: list[Difference]) -> list[str]:
    """What a reader of the tables must know, the fallen guards first."""
    seeds = sorted({run["job"]["seed"] for run in found})
    prompts = sorted({len(run["right"]) for run in found})
    said = [f"GUARD FELL: {line}" for line in deceived(gaps)]
    said += [f"{name}: {', '.join(f'{key} {value:g}' for key, value in SETTINGS[name].items())}"
             for name in dict.fromkeys(row.setting for row in rows)]  # fmt: skip
    said += [f"{arm}: {text}" for arm, text in NAMED.items() if any(row.arm == arm for row in rows)]
    said.append(
        f"{len(seeds)} seeds x {'/'.join(map(str, prompts))} held-out prompts (known users, unseen lists, greedy); "
        "intervals resample seeds, then prompts; differences are paired by seed and prompt"
    )
    said.append(f"at least as good: lower end above -{100 * MARGIN:g} points; rates from {', '.join(map('{:g}'.format, GRID))}")
    return said


def as_markdown(found: list[Outcome], rows: list[Level], gaps: list[Difference]) -> str:
    """Both tables and the notes."""
    parts = []
    for header, lines in ((LEVELS, map(level_cells, rows)), (DIFFERENCES, map(difference_cells, gaps))):
        table = [header, ["---"] * len(header), *lines]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in table))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(found, rows, gaps))]) + "\n"


def as_json(found: list[Outcome], rows: list[Level], gaps: list[Difference]) -> str:
    """Everything: outcomes with each verdict and step, levels, differences, guards."""
    content = {
        "levels": [asdict(row) for row in rows],
        "differences": [asdict(gap) | {"verdict": gap.verdict} for gap in gaps],
        "guards_fallen": deceived(gaps),
        "outcomes": found,
    }
    return json.dumps(_strict(content), allow_nan=False) + "\n"


def show(found: list[Outcome], rows: list[Level], gaps: list[Difference]) -> None:
    """Prints both tables and the notes."""
    from rich.table import Table
    from rich.text import Text

    from fdt.table import terminal

    console = terminal()
    for header, lines in ((LEVELS, map(level_cells, rows)), (DIFFERENCES, map(difference_cells, gaps))):
        grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for heading in header:
            grid.add_column(Text(heading))
        for cells in lines:
            grid.add_row(*map(Text, cells))
        console.print(grid)
        console.print()
    for note in notes(found, rows, gaps):
        console.print(note, markup=False, highlight=False)


def picture(found: list[Outcome], rows: list[Level], path: Path) -> None:
    """For each setting the learning curves (mean over seeds, band from lowest to highest) beside the held-out levels."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fdt.figures import STYLE

    settings = list(dict.fromkeys(row.setting for row in rows))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.9 * len(settings)), dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(settings), 2, squeeze=False, width_ratios=(1.25, 1))
        for (left, right), setting in zip(panels, settings, strict=True):
            _curves(left, [run for run in found if run["job"]["setting"] == setting], setting)
            _bars(right, [row for row in rows if row.setting == setting])
        figure.savefig(path, metadata={"Software": None})


def _curves(axes: Any, runs: list[Outcome], setting: str) -> None:
    for arm in ARMS:
        curves = [curve(run) for run in runs if run["job"]["arm"] == arm]
        if curves:
            spent, right = curves[0][0], 100 * np.array([values for _, values in curves])
            axes.fill_between(spent, right.min(0), right.max(0), color=colour(arm), alpha=0.12, linewidth=0)
            axes.plot(spent, right.mean(0), _style(arm), color=colour(arm), linewidth=1.9, label=arm)
    axes.set(title=f"{setting}: answers while learning", xlabel="rollouts", ylabel="sampled answers right, %", ylim=(0, 100))
    axes.legend(loc="upper left", ncols=2)


def _bars(axes: Any, rows: list[Level]) -> None:
    for place, row in enumerate(rows):
        value, low, high = (100 * end for end in (row.right.mean, row.right.low, row.right.high))
        axes.barh(place, value, color=colour(row.arm), alpha=0.85, height=0.65)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], color="#1a1a1a", capsize=3, linewidth=1.2)
        axes.annotate(f"{value:.0f}", (high, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.set(title="held-out answers", xlabel="right, % [95 % interval]", xlim=(0, 108))


def colour(arm: str) -> str:
    """The arm's colour in every picture of the bench."""
    from fdt.figures import BASE_COLOUR, PALETTE

    return BASE_COLOUR if arm in (BASE, "shuffled") else PALETTE[ARMS.index(arm) % len(PALETTE)]


def _style(arm: str) -> str:
    return ("-", "--", "-.")[ARMS.index(arm) % 3] if arm != "shuffled" else ":"


def _interval(value: Any, digits: str) -> str:
    low, high = (f"{100 * end:{digits}}" if isfinite(end) else "–" for end in (value.low, value.high))
    return f"{100 * value.mean:{digits}} [{low}, {high}]"


def _reached(spent: list[float]) -> str:
    """Median over seeds, and how many seeds got there."""
    middle, there = float(np.median(spent)), sum(map(isfinite, spent))
    return (f"{middle:.0f}" if isfinite(middle) else "never") + ("" if there == len(spent) else f" ({there}/{len(spent)})")


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
