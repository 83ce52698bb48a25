"""The diversity panel: what several sampled answers to each held-out prompt solve together and how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

from fdt.report.measures import get_number
from fdt.report.runs import Record, Run
from fdt.statistics.intervals import Interval, compute_mean_interval, compute_paired_difference

LABELS = {
    "unique_share": "different action sequences, share",
    "solutions": "different solutions a prompt",
    "right_solutions": "different right solutions a prompt",
    "wrong_unique": "different among wrong ones, share",
    "distinct_2": "different word pairs, share",
    "entropy": "entropy, nats/token",
}
PASS = "pass_at_"


@dataclass(frozen=True)
class DiversityRow:
    """One measure of one arm; intervals over prompts, the change paired by prompt."""

    arm: str
    label: str
    prompts: int
    before: Interval
    after: Interval
    change: Interval


def compute_diversity(runs: list[Run]) -> list[DiversityRow]:
    """Every measure of every arm that sampled several answers before and after (`fdt.evaluation.pass_at_k.PassAtK`)."""
    return [
        line
        for run in runs
        for line in _build_rows(run.name, *(_select_sampled(run.evals.get(n, [])) for n in ("base", "last")))
    ]


def _select_sampled(records: list[Record]) -> dict[str, Record]:
    return {str(record.get("id")): record for record in records if isinstance(record.get("samples"), list)}


def _build_rows(arm: str, before: dict[str, Record], after: dict[str, Record]) -> list[DiversityRow]:
    shared = [key for key in before if key in after]
    names = [name for name in (before[shared[0]] if shared else {}) if str(name).startswith(PASS)]
    found = []
    for name in (*names, *LABELS):
        pairs = [(get_number(before[key], name), get_number(after[key], name)) for key in shared]
        known = [(one, other) for one, other in pairs if isfinite(one) and isfinite(other)]
        if known:
            one, other = ([pair[side] for pair in known] for side in (0, 1))
            label = LABELS.get(name) or format_pass_at_k(name)
            found.append(
                DiversityRow(
                    arm,
                    label,
                    len(known),
                    compute_mean_interval(one),
                    compute_mean_interval(other),
                    compute_paired_change(one, other),
                )
            )
    return found


def compute_paired_change(one: Sequence[float], other: Sequence[float]) -> Interval:
    """The paired change; unknown with a single prompt."""
    return compute_paired_difference(one, other) if len(one) > 1 else Interval(other[0] - one[0], nan, nan)


def format_pass_at_k(name: str) -> str:
    """``pass_at_8_within_3`` as pass@(8, 3 turns)."""
    k, _, turns = name.removeprefix(PASS).partition("_within_")
    return f"pass@({k}, {turns} turns)" if turns else f"pass@{k}"
