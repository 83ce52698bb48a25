"""Arms side by side over their seeds: levels before and after, and what one arm has over another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fdt.report.arms import Arm
from fdt.report.measures import LIKELIHOOD, detect_kind, get_number, select_measured
from fdt.report.runs import Record, Run
from fdt.report.sanitize import make_legible
from fdt.report.table import format_interval
from fdt.statistics.intervals import Interval
from fdt.statistics.nested import compute_nested_interval

ALL_PAIRS = 4
"""With more arms than this each is compared with the first one alone."""
UNITS = {LIKELIHOOD: "In nats a reference token: lower is better.", "score": "In points of a score from 0 to 100."}

Values = dict[str, float]
"""Prompt -> its measurement: a score times 100, or nats a token."""


@dataclass(frozen=True)
class Level:
    """One arm over its seeds."""

    arm: str
    seeds: int
    before: Interval | None
    """None where the base was not measured; so is `change`."""
    after: Interval
    change: Interval | None


@dataclass(frozen=True)
class Difference:
    """`arm` minus `other` after training, over the seeds and prompts that both have."""

    arm: str
    other: str
    seeds: int
    prompts: int
    value: Interval


@dataclass(frozen=True)
class Compared:
    """The tables of the panel."""

    levels: list[Level]
    differences: list[Difference]
    notes: list[str]
    unit: str
    digits: int
    """Digits after the point."""


def compare_arms(arms: list[Arm]) -> Compared | None:
    """None where there is one run alone, or where arms were measured differently."""
    measured = [arm for arm in arms if any(run.evals.get("last") for run in arm.runs)]
    kinds = {detect_kind(run.evals["last"]) for arm in measured for run in arm.runs if run.evals.get("last")}
    if sum(len(arm.runs) for arm in measured) < 2 or len(kinds) != 1:
        return None
    notes: list[str] = []
    notes += [f"{arm.name}: {twins}" for arm in measured for twins in _find_twins(arm)]
    levels = [level for arm in measured if (level := _compute_level(arm, notes)) is not None]
    pairs = list(combinations(measured, 2))
    pairs = pairs if len(measured) <= ALL_PAIRS else [pair for pair in pairs if pair[0] is measured[0]]
    found = [_compute_difference(one, other, notes) for one, other in pairs]
    kind = kinds.pop()
    digits = 3 if kind == LIKELIHOOD else 1
    return Compared(levels, [one for one in found if one is not None], notes, UNITS[kind], digits)


def read_values(records: list[Record]) -> Values:
    """The measurement of each prompt, in the panel's unit."""
    if detect_kind(records) == LIKELIHOOD:
        return {key: get_number(r, "nll_sum") / get_number(r, "tokens") for key, r in select_measured(records).items()}
    return {key: 100 * get_number(record, "score") for key, record in select_measured(records).items()}


def _find_twins(arm: Arm) -> list[str]:
    """Seeds that answered alike everywhere, which no two runs do unless they were the same one."""
    texts = [[record.get("response") for record in run.evals.get("last", [])] for run in arm.runs]
    pairs = combinations(zip(arm.seeds, texts, strict=True), 2)
    twins = [(one, other) for (one, first), (other, second) in pairs if first == second and any(first)]
    return [
        f"seeds {one} and {other} answered alike throughout, so they count for one. A seed is set with data.seed and "
        "model.seed."
        for one, other in twins
    ]


def _compute_level(arm: Arm, notes: list[str]) -> Level | None:
    pairs = [(read_values(run.evals.get("base", [])), read_values(run.evals.get("last", []))) for run in arm.runs]
    known = [(before, after) for before, after in pairs if before.keys() & after.keys()]
    if not known:
        return _compute_end(arm)
    if len(known) < len(arm.runs):
        missing = f"{len(arm.runs) - len(known)} of {len(arm.runs)}"
        notes.append(f"{arm.name}: {missing} seeds were not measured before and after")
    changes = [[after[key] - before[key] for key in before if key in after] for before, after in known]
    return Level(
        arm.name,
        len(known),
        compute_nested_interval([np.array(list(before.values())) for before, _ in known]),
        compute_nested_interval([np.array(list(after.values())) for _, after in known]),
        compute_nested_interval([np.array(change) for change in changes]),
    )


def _compute_end(arm: Arm) -> Level | None:
    """The level of an arm whose base was not measured on the same prompts."""
    ends = [np.array(list(read_values(run.evals["last"]).values())) for run in arm.runs if run.evals.get("last")]
    known = [values for values in ends if len(values)]
    return Level(arm.name, len(known), None, compute_nested_interval(known), None) if known else None


def _compute_difference(one: Arm, other: Arm, notes: list[str]) -> Difference | None:
    left, right = ({seed: run for run, seed in zip(arm.runs, arm.seeds, strict=True)} for arm in (one, other))
    shared = [seed for seed in left if seed in right]
    gaps = [gap for seed in shared if len(gap := _subtract(left[seed], right[seed]))]
    if not gaps:
        notes.append(f"{one.name} and {other.name} have no seed in common that was measured on the same prompts")
        return None
    return Difference(one.name, other.name, len(gaps), min(map(len, gaps)), compute_nested_interval(gaps))


def _subtract(one: Run, other: Run) -> np.ndarray:
    """Difference on each prompt that both were asked after training."""
    mine, theirs = (read_values(run.evals.get("last", [])) for run in (one, other))
    return np.array([mine[key] - theirs[key] for key in mine if key in theirs])


def show_comparison(compared: Compared, console: Console) -> None:
    """Prints the tables of the panel, where some arm has several seeds or there are several arms."""
    grid = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("over seeds", "seeds", "after [95 % interval]", "change or difference [95 %, paired]"):
        grid.add_column(Text(name), justify="left" if name == "over seeds" else "right")
    digits = f".{compared.digits}f"
    for level in compared.levels:
        cells = (
            level.arm,
            str(level.seeds),
            *(format_interval(one, 1.0, digits) for one in (level.after, level.change)),
        )
        grid.add_row(*(Text(make_legible(cell)) for cell in cells))
    for one in compared.differences:
        cells = (f"{one.arm} − {one.other}", str(one.seeds), "", format_interval(one.value, 1.0, "+" + digits))
        grid.add_row(*(Text(make_legible(cell)) for cell in cells))
    console.print(grid)
    for note in compared.notes:
        console.print(make_legible(f"note: {note}"), markup=False, highlight=False)
