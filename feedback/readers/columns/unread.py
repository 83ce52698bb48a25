"""What a file holds under names that nobody reads: feedback, and words of a system before the prompt. It is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.base import Reader
from feedback.readers.columns.fit import CONFIG, Values, suggest_map
from feedback.readers.columns.mapping import NOTE, SYSTEM, TURNS, format_map
from feedback.readers.columns.names import (
    find_kind,
    find_unmistakable,
    holds_lists,
    names_system,
    read_range,
)
from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode


def check_unread(path: str, reader: Reader, head: Sequence[Record]) -> None:
    """Raises one `DataError` where feedback stands in columns that the format does not read, and none of its kind in
    those that it does; or the words of a system in a column of their own."""
    if not type(reader).__module__.startswith("feedback.readers."):
        return
    score_range = ScoreRange((-math.inf, math.inf))
    episodes: list[Episode] = []
    for record in reader.merge(path, iter(head)):
        fields = Fields(record, score_range)
        found = reader.parse(fields) if record.error is None else []
        episodes += [] if fields.faults else found
    kinds = list_kinds(episodes)
    notes: Values = {}
    for episode in episodes:
        for name, value in _iter_notes(episode.task.meta, with_inner=not kinds):
            notes.setdefault(name, []).append(value)
    _check_system(path, head, notes)
    if not reader.reads_feedback:
        return
    given = {name for record in head for name in record.columns if name not in notes}
    unread = {
        name: field
        for name, values in notes.items()
        if (field := find_unmistakable(name, values)) is not None and field not in kinds | given
    }
    if unread:
        raise _build_unread_error(path, reader, unread, notes)
    if lists := [name for name, values in notes.items() if not kinds and holds_lists(name, values)]:
        keep = format_map({f"{NOTE}{name}": name for name in lists})
        said = ", ".join(f"{format_value(name)} (lists)" for name in lists)
        remedy = "Give each value a column of its own, or write scores: [{name, value}] (docs/formats.md); or type "
        remedy += f"{keep} to keep it as a note{CONFIG}"
        raise DataError(path, None, "columns", f"feedback that nothing reads: {said}", "one value a column", remedy)


def _check_system(path: str, head: Sequence[Record], notes: Values) -> None:
    """Raises `DataError` for words of a system that stand beside the prompt, where the policy would not read them."""
    name = next((name for name, values in notes.items() if names_system(name, values)), None)
    if name is None:
        return
    keep = f"{format_map({f'{NOTE}{name}': name})} to keep them as a note{CONFIG}"
    typed = f"Type {format_map({SYSTEM: name})} to put them before it"
    if not any(place in record.fields for record in head for place in TURNS):
        typed = "Write them into the prompt, as its first message"
    got = f"words of a system that nothing reads: {format_value(name)} (text)"
    raise DataError(path, None, "columns", got, "all that the policy reads in the prompt", f"{typed}, or {keep}")


def _iter_notes(meta: dict[str, Any], with_inner: bool) -> Iterable[tuple[str, Any]]:
    """The notes of a record, with those inside its objects under dotted names where asked for."""
    for name, value in meta.items():
        yield name, value
        if with_inner and isinstance(value, dict):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items() if isinstance(inner, str))


def list_kinds(episodes: Iterable[Episode]) -> set[str]:
    """Which of score, critique and revision the episodes hold; a comparison counts as a score."""
    found = set()
    for episode in episodes:
        if episode.preferences:
            found.add("score")
        for item in episode.feedback:
            found |= {"score"} if item.scale or not math.isnan(item.score) else set()
            found |= {"critique"} if item.text else set()
            found |= {"revision"} if item.revision else set()
    return found


def _build_unread_error(path: str, reader: Reader, unread: dict[str, str], notes: Values) -> DataError:
    said = ", ".join(f"{format_value(name)} ({_describe(notes[name])})" for name in unread)
    mapped: dict[str, str] = {}
    for name, field in unread.items():
        if name != field:
            mapped.setdefault(field, name)
    keep = format_map({f"{NOTE}{name}": name for name in unread})
    read = f"Type {suggest_map(mapped, notes)} to read it"
    if not reader.reads_row_columns or not mapped:
        read = f"The format {reader.name} reads no such column: put it into rows or episodes (docs/formats.md)"
    remedy = f"{read}, or {keep} to keep it as a note{CONFIG}"
    expected = f"{' and '.join(dict.fromkeys(unread.values()))} under names that the format {reader.name} reads"
    return DataError(path, None, "columns", f"feedback that nothing reads: {said}", expected, remedy)


def _describe(values: list[Any]) -> str:
    seen = read_range(values)
    if find_kind(values) == "text":
        return "text"
    if seen is None:
        return "ratings as text" if any(isinstance(value, str) for value in values) else "true or false"
    return f"numbers from {seen[0]:g} to {seen[1]:g}"
