"""Tasks that fdt made for an annotation tool (`feedback.forms`) and that come back with people's answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feedback.forms.tasks import POINTS, RECORD, build_items
from feedback.readers.fields import Fields
from feedback.readers.formats.episodes import Episodes
from feedback.types import Episode

Answered = tuple[str | None, list[tuple[str, Any]]]
"""Who answered, and for each question its name and the answer."""


def is_returned(data: Fields) -> bool:
    """Whether a task carries an episode of ours."""
    return data.get(RECORD) is not None


def read_returned(data: Fields, answered: Iterable[Answered]) -> list[Episode]:
    """The episode that a task carries, with the answers as feedback after what it had.

    Args:
        data: the fields of the task, the record and the points already read from their JSON.
        answered: the answers of each person.
    """
    record = data.get_object(RECORD)
    points = data.get(POINTS)
    if not isinstance(record.value.get("messages"), list) or not isinstance(points, list) or len(points) != 2:
        data.refuse(RECORD, record.value, "the episode that `fdt data convert --to` put there, and its points")
        return []
    items: list[dict[str, Any]] = []
    for annotator, answers in answered:
        try:
            items += build_items(answers, record.value, points, annotator)
        except ValueError as error:
            data.refuse("turn", str(error), "a turn that the episode has")
    given = record.value.get("feedback") or []
    return Episodes().parse(record.replace_values(record.value | {"feedback": [*given, *items]}))
