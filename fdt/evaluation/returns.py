"""What evaluations return, checked: one message that names the evaluation, what it gave and what it must give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fdt.evaluation.base import Evaluation, Record
from fdt.rollout.actor import Actor
from fdt.rollout.curricula.base import Curriculum, get_dataset
from feedback.returns import check_list, describe, refuse
from feedback.types import Task

DATASET = "dataset"
"""Where a record names the data set of its task."""


def measure_tasks(
    evaluation: Evaluation, tasks: Sequence[Task], actor: Actor, curriculum: Curriculum | None = None
) -> list[Record | None]:
    """`Evaluation.__call__`, checked; with a curriculum each record names its task's data set, where that has one.

    Raises:
        DataError: where it gives another number of records than of tasks, or one that cannot be written as JSON.
    """
    found = check_list(evaluation, evaluation(tasks, actor), dict | None, "records", len(tasks))
    for task, record in zip(tasks, found, strict=True):
        try:
            json.dumps(record)
        except (TypeError, ValueError) as fault:
            got = f"a record of {task.key} that is no JSON ({fault})"
            raise refuse(evaluation, got, "a dict of text, numbers, lists and None") from None
        name = None if curriculum is None else get_dataset(task, curriculum.column)
        if record is not None and name is not None:
            record[DATASET] = name
    return found


def summarise_records(evaluation: Evaluation, records: Sequence[Record]) -> dict[str, float]:
    """`Evaluation.summarise_records`, checked.

    Raises:
        DataError: where it gives no numbers by name.
    """
    found = evaluation.summarise_records(records)
    expected = "a dict of numbers by name, the headline first"
    if not isinstance(found, dict) or not found:
        raise refuse(evaluation, f"{describe(found)} as a summary", expected)
    for name, value in found.items():
        if not isinstance(name, str) or not _is_number(value):
            raise refuse(evaluation, f"{describe(value)} as {name!r} of a summary", expected)
    return found


def summarise_datasets(evaluation: Evaluation, records: Sequence[Record]) -> dict[str, float]:
    """The headline of each data set that records name, under HEADLINE/NAME; nothing where they name none."""
    names = sorted({record[DATASET] for record in records if DATASET in record})
    found = {}
    for name in names:
        own = summarise_records(evaluation, [record for record in records if record.get(DATASET) == name])
        headline = next(iter(own))
        found[f"{headline}/{name}"] = own[headline]
    return found


def compute_quality(evaluation: Evaluation, records: Sequence[Record]) -> float:
    """`Evaluation.compute_quality`, checked.

    Raises:
        DataError: where it is no number.
    """
    found: Any = evaluation.compute_quality(records)
    if not _is_number(found):
        raise refuse(evaluation, f"{describe(found)} as the quality", "a number, higher is better")
    return float(found)


def compute_interval(evaluation: Evaluation, records: Sequence[Record]) -> tuple[float, float] | None:
    """`Evaluation.compute_interval`, checked.

    Raises:
        DataError: where it is neither None nor two numbers, the lower first.
    """
    found: Any = evaluation.compute_interval(records)
    if found is None:
        return None
    pair = isinstance(found, list | tuple) and len(found) == 2 and all(map(_is_number, found))
    if not pair or found[0] > found[1]:
        raise refuse(evaluation, f"{describe(found)} as the interval", "the lower and the upper end, or None")
    return float(found[0]), float(found[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
