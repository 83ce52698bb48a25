"""`fdt bench calibration` in the terminal, as Markdown, as JSON and as a picture of reliability diagrams."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fdt.bench.base import BASE, Outcome
from fdt.bench.calibration import ARMS, RATE
from fdt.bench.calibration_results import (
    MARGIN,
    ORACLE,
    USEFUL,
    Answer,
    Difference,
    Level,
    get_confidences,
    simulate_oracle,
)
from fdt.bench.show import print_tables
from fdt.statistics.calibration import BINS, bin_answers

LEVELS = ("arm", "right, %", "stated, %", "Brier", "ECE, debiased", "AUROC", "unread, %", "s")
DIFFERENCES = ("arm", "minus", "right, points", "stated, points", "Brier", "ECE", "AUROC")
ANSWERS = ("question", "number", "value [95 %]", "answer")
NOTES = {
    BASE: "before training: knows half of the habits, too sure",
    "plain": "policy gradient on right or wrong",
    "brier": "the same reward minus the Brier loss of what is stated (RLCR)",
    "brier_and_critiques": "that, and distillation from a teacher that read the convention and is sure",
    "split": "the same, but the teacher does not train the line of the confidence (objectives.SkipLast)",
    "critiques": "distillation alone",
    "mix": "both signals as in algorithm/dspo, the line of the confidence left to the Brier reward",
    ORACLE: "states every user's true chance: what there is to reach",
}


@dataclass(frozen=True)
class CalibrationResult:
    """All that the bench found."""

    outcomes: list[Outcome]
    levels: list[Level]
    differences: list[Difference]
    answers: list[Answer]

    @property
    def tables(self) -> list[tuple[tuple[str, ...], list[list[str]]]]:
        """Heading and lines of cells."""
        return [
            (LEVELS, [_format_level(row) for row in self.levels]),
            (DIFFERENCES, [[gap.arm, gap.baseline, *_format_numbers(gap.numbers, "+")] for gap in self.differences]),
            (ANSWERS, [[a.question, a.number, _format_cell(a.value, "+.3f", 1), a.verdict] for a in self.answers]),
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader of the tables must know."""
        seeds = {run["job"]["seed"] for run in self.outcomes}
        prompts = sorted({len(run["right"]) for run in self.outcomes})
        return [
            *(f"{row.arm}: {NOTES[row.arm]}" for row in self.levels),
            f"{len(seeds)} seeds x {'/'.join(map(str, prompts))} held-out prompts (known users, unseen lists, greedy); "
            "intervals resample seeds, then prompts; differences are paired by seed and prompt",
            f"one learning rate for all arms, {RATE:g}; answers whose confidence cannot be read count as stating 0; "
            f"useful: AUROC above {USEFUL:g}; equal: within {100 * MARGIN:g} points",
        ]


def as_markdown(found: CalibrationResult) -> str:
    """The tables and the notes."""
    tables = ([header, ["---"] * len(header), *lines] for header, lines in found.tables)
    parts = ["\n".join(f"| {' | '.join(line)} |" for line in table) for table in tables]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in found.notes)]) + "\n"


def as_json(found: CalibrationResult) -> str:
    """Everything: outcomes with each verdict and confidence, levels, differences, answers."""
    return json.dumps(_replace_nonfinite(asdict(found)), allow_nan=False) + "\n"


def print_results(found: CalibrationResult) -> None:
    """Prints the tables and the notes."""
    print_tables(found.tables, found.notes)


def draw_picture(found: CalibrationResult, path: Path) -> None:
    """For each arm its reliability diagram over all seeds (the area of a point is its share of the answers), and below
    it how many answers state what."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fdt.report.figures import STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.75 * len(found.levels), 4.7), dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, len(found.levels), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1.1))
        for (upper, lower), row in zip(panels.T, found.levels, strict=True):
            q, c = pool_seeds(found.outcomes, row.arm)
            draw_diagram(upper, q, c, pick_colour(row.arm))
            upper.set_title(
                f"{row.arm.replace('_and_', ' and ')}\nECE {row.numbers['ece'].mean:.2f}, "
                f"right {100 * row.numbers['right'].mean:.0f} %"
            )
            draw_histogram(lower, q, pick_colour(row.arm))
            lower.set_xlabel("stated confidence")
        panels[0][0].set_ylabel("share right")
        panels[1][0].set_ylabel("answers")
        figure.savefig(path, metadata={"Software": None})


def draw_diagram(axes: Any, q: Any, c: Any, shade: str) -> None:
    """Share right by stated confidence; the gap to the dotted line is the error."""
    bins = bin_answers(q, c)
    axes.plot([0, 1], [0, 1], ":", color="#8a8a8a", linewidth=1.2)
    axes.vlines(bins.stated, bins.right, bins.stated, color=shade, alpha=0.35, linewidth=2)
    axes.scatter(bins.stated, bins.right, 20 + 400 * bins.counts / bins.counts.sum(), color=shade, alpha=0.85, zorder=3)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")


def draw_histogram(axes: Any, q: Any, shade: str) -> None:
    """Share of the answers in each tenth."""
    edges = np.linspace(0, 1, BINS + 1)
    # As in `bin_answers`: a stated 0.3 belongs to the bin that starts there.
    axes.hist(
        np.minimum(q + 1e-9, 1),
        bins=edges.tolist(),
        weights=np.full(len(q), 1 / len(q)),
        color=shade,
        rwidth=0.88,
    )
    axes.set_ylim(0, 1)


def pool_seeds(outcomes: list[Outcome], arm: str) -> tuple[Any, Any]:
    """Confidences and outcomes of all seeds of an arm, each [all prompts]."""
    runs = [run for run in outcomes if run["job"]["arm"] == (BASE if arm == ORACLE else arm)]
    parts = [(simulate_oracle if arm == ORACLE else get_confidences)(run) for run in runs]
    confidences, outcomes_right = zip(*parts, strict=True)
    return np.concatenate(confidences), np.concatenate(outcomes_right)


def pick_colour(arm: str) -> str:
    """The arm's colour in every picture of the bench."""
    from fdt.report.figures import BASE_COLOUR, PALETTE

    return PALETTE[ARMS.index(arm) % len(PALETTE)] if arm in ARMS else BASE_COLOUR


def _format_level(row: Level) -> list[str]:
    seconds = f"{row.seconds:.0f}" if isfinite(row.seconds) else ""
    return [row.arm, *_format_numbers(row.numbers, ""), f"{100 * row.unread:.1f}", seconds]


def _format_numbers(numbers: dict[str, Any], sign: str) -> list[str]:
    return [
        _format_cell(value, f"{sign}.1f", 100) if name in ("right", "stated") else _format_cell(value, f"{sign}.3f", 1)
        for name, value in numbers.items()
    ]


def _format_cell(value: Any, digits: str, scale: float) -> str:
    ends = (value.mean, value.low, value.high)
    mean, low, high = (f"{scale * end:{digits}}" if isfinite(end) else "–" for end in ends)
    return f"{mean} [{low}, {high}]"


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
