"""The before/after table: the base, then one row per arm, over the same held-out prompts."""

import json
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fdt.report import measures
from fdt.report.measures import LIKELIHOOD, SCORE
from fdt.report.runs import Record, Run
from fdt.report.sanitize import make_legible
from fdt.statistics.intervals import Interval
from fdt.statistics.preference import compute_preference

# kind -> headings of the two measured columns and of the length, factor from the stored unit to the printed one, format
KINDS = {
    SCORE: ("score, %\n[95 % interval]", "change, points\n[95 % interval]", "answer", 100.0, ".1f"),
    LIKELIHOOD: ("NLL, nats/token\n[95 % interval]", "change, nats/token\n[95 % interval]", "reference", 1.0, ".3f"),
}
UNKNOWN = "–"
ALIKE = 0.5
"""Share of the prompts from which on one answer to them is told of."""
ABOVE = 0.1
"""By how much that must be more than what their references, and the base's answers, have in common."""
SHOWN = 60
"""Characters of that answer."""
WIDTH = 120
"""Columns of text where the output is a file, so that no terminal states its width."""


@dataclass(frozen=True)
class Row:
    """One line of the table. Numbers are in the stored unit: score in [0, 1], or nats per token."""

    name: str
    kind: str
    prompts: int  # held-out prompts with a measurement
    value: Interval | None  # None where no answer was measured
    change: Interval | None = None  # from the arm's own base, paired by prompt; None for a base
    length: float = nan  # mean length
    length_unit: str = "characters"
    steps: float = nan
    rollouts: float = nan  # training episodes
    minutes: float = nan  # in training steps, without evaluation
    used_share: float = nan  # rows of the feedback file that were used, in [0, 1]
    is_base: bool = False


@dataclass(frozen=True)
class Table:
    """Rows in print order, and what a reader of them must know."""

    rows: list[Row]
    notes: list[str]

    def list_kinds(self) -> list[str]:
        """The kinds of measurement in order of appearance; each is printed as a table of its own."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    def build_header(self, kind: str) -> list[str]:
        """Headings of the printed table of one kind; a line break separates a heading from its unit."""
        value, change, length, _, _ = KINDS[kind]
        unit = next((row.length_unit for row in self.rows if row.kind == kind), "characters")
        return ["", "prompts", value, change, f"{length},\n{unit}", "steps", "rollouts", "minutes", "used, %"]

    def format_cells(self, kind: str) -> list[list[str]]:
        """Printed cells, one list per row, in the order of `build_header`."""
        return [_format_row(row) for row in self.rows if row.kind == kind]

    def as_json(self) -> str:
        """Rows and notes as strict JSON, in the stored units; what is unknown is null."""
        content = {"rows": [asdict(row) for row in self.rows], "notes": self.notes}
        return json.dumps(_replace_nonfinite(content), indent=2, allow_nan=False) + "\n"

    def as_markdown(self) -> str:
        """One Markdown table per kind, then the notes as a list."""
        parts = []
        for kind in self.list_kinds():
            header = self.build_header(kind)
            lines = [header, ["---", *["---:"] * (len(header) - 1)], *self.format_cells(kind)]
            parts.append("\n".join(f"| {' | '.join(map(_escape_markdown, line))} |" for line in lines))
        if self.notes:
            parts.append("\n".join(f"- {_escape_markdown(note)}" for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def save(self, folder: Path) -> None:
        """Writes table.json and table.md into `folder`."""
        (folder / "table.json").write_text(self.as_json(), encoding="utf-8")
        (folder / "table.md").write_text(self.as_markdown(), encoding="utf-8")

    def show(self, console: Console | None = None) -> None:
        """Prints tables and notes to the terminal."""
        console = console or build_console()
        for kind in self.list_kinds():
            grid = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
            for index, heading in enumerate(self.build_header(kind)):
                grid.add_column(Text(heading), justify="right" if index else "left", no_wrap=index in (2, 3))
            for cells in self.format_cells(kind):
                # As Text, not markup: an interval is written in brackets.
                grid.add_row(*(Text(make_legible(cell)) for cell in cells))
            console.print(grid)
        for note in self.notes:
            console.print(make_legible(f"note: {note}"), markup=False, highlight=False)


def build_console() -> Console:
    """Standard output, wide enough for the table where it is a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


def build_table(runs: list[Run]) -> Table:
    """The table over `runs`. Arms that started from one base share its row, others get a base row of their own."""
    bases: list[tuple[Run, list[Record]]] = []
    base_rows: list[Row] = []
    arm_rows: list[Row] = []
    notes: list[str] = []
    for run in runs:
        base = run.evals.get("base", [])
        last = run.evals.get("last", [])
        if base and not any(measures.is_same_base(base, other) for _, other in bases):
            same_kind = [
                first.name for first, other in bases if measures.detect_kind(other) == measures.detect_kind(base)
            ]
            if same_kind:
                notes.append(f"{run.name} and {same_kind[0]} have different bases: compare changes, not levels")
            base_rows.append(_build_row(f"base of {run.name}" if same_kind else "base", base, is_base=True))
            bases.append((run, base))
        if last:
            arm_rows.append(_build_arm_row(run, base, last, notes))
        else:
            notes.append(f"{run.name}: no answers to the held-out prompts after training")
    return Table(base_rows + arm_rows, notes)


def _build_row(name: str, records: list[Record], **more: Any) -> Row:
    length, unit = measures.compute_mean_length(records)
    prompts = len(measures.select_measured(records))
    return Row(
        name,
        measures.detect_kind(records),
        prompts,
        measures.compute_level(records),
        length=length,
        length_unit=unit,
        **more,
    )


def _build_arm_row(run: Run, base: list[Record], last: list[Record], notes: list[str]) -> Row:
    change, shared = measures.compute_change(base, last)
    asked = max(len(measures.select_measured(base)), len(measures.select_measured(last)))
    if base and shared < asked:
        notes.append(f"{run.name}: its change is over the {shared} of {asked} prompts measured before and after")
    if missing := len(last) - len(measures.select_measured(last)):
        notes.append(f"{run.name}: {missing} of {len(last)} held-out answers have no measurement")
    told = (describe_preference(base, last), describe_sameness(base, last))
    notes += [f"{run.name}: {text}" for text in told if text is not None]
    steps, rollouts, minutes = measures.compute_cost(run)
    share = measures.compute_used_share(run)
    return _build_row(run.name, last, change=change, steps=steps, rollouts=rollouts, minutes=minutes, used_share=share)


def describe_preference(base: list[Record], last: list[Record]) -> str | None:
    """Where references have a worse answer beside them: how often they are the likelier one, before and after."""
    before, after = compute_preference(base), compute_preference(last)
    if before is None or after is None:
        return None
    shares = [f"{_format_number(100 * found.share, '.1f')} %" for found in (before, after)]
    margins = [f"{found.margin:+.3f}" for found in (before, after)]
    told = f"{shares[0]} of {after.prompts} prompts before, {shares[1]} after"
    return f"reference likelier per token than the worse answer: {told}; margin {' before, '.join(margins)} nats after"


def describe_sameness(base: list[Record], last: list[Record]) -> str | None:
    """That most prompts got one answer after training, where neither their references nor the base's answers do."""
    before, after = measures.compute_sameness(base), measures.compute_sameness(last)
    if after is None or after.share < max(ALIKE, after.commonest + ABOVE, before.share + ABOVE if before else 0.0):
        return None
    text = after.answer if len(after.answer) <= SHOWN else f"{after.answer[:SHOWN]}..."
    known = f"; the commonest reference is that of {after.commonest:.0%}" if after.commonest else ""
    return f"one answer, {text!r}, to {after.share:.0%} of the prompts{known}"


def _format_row(row: Row) -> list[str]:
    *_, scale, digits = KINDS[row.kind]
    return [
        row.name,
        str(row.prompts),
        format_interval(row.value, scale, digits),
        "" if row.is_base else format_interval(row.change, scale, "+" + digits),
        _format_number(row.length, ".0f"),
        *("" if row.is_base else _format_number(value, ".0f") for value in (row.steps, row.rollouts)),
        "" if row.is_base else _format_number(row.minutes, ".1f"),
        "" if row.is_base else _format_number(100 * row.used_share, ".0f"),
    ]


def format_interval(interval: Interval | None, scale: float, digits: str) -> str:
    """``30.5 [24.0, 37.0]`` after multiplication by `scale`, or a dash."""
    if interval is None:
        return UNKNOWN
    low, high = (_format_number(scale * end, digits) for end in (interval.low, interval.high))
    return f"{scale * interval.mean:{digits}} [{low}, {high}]"


def _format_number(value: float, digits: str) -> str:
    return f"{value:{digits}}" if isfinite(value) else UNKNOWN


def _escape_markdown(cell: str) -> str:
    return make_legible(cell).replace("\n", " ").replace("|", r"\|").replace("<", "&lt;")


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
