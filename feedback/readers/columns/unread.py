"""What a file holds and would be passed over: columns that fit no format, and feedback under a name nobody reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.base import Reader
from feedback.readers.columns.mapping import FIELDS, NOTE, format_map, list_columns
from feedback.readers.columns.names import find_kind, find_unmistakable, read_range, suggest_field
from feedback.readers.fast_rows import KNOWN
from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import Scale, ScoreRange
from feedback.types import Episode

ESSENTIAL = ("prompt", "response")
USUAL_SCALES: tuple[Scale, ...] = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
"""Scales that people use, the narrowest first, to suggest one for numbers that were seen."""
Values = dict[str, list[Any]]


def collect_columns(head: Iterable[Record]) -> Values:
    """The values of each column of some records; a column of a table without any value has none."""
    found: Values = {}
    for record in head:
        for name in record.columns:
            found.setdefault(name, [])
        for name, value in record.fields.items():
            found.setdefault(name, []).append(value)
    return found


def check_fit(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where the columns of a file of rows are other ones: those seen, and the map to type.

    A file that has the columns, or of which nothing more can be said, passes: its faults are told line by line.
    """
    columns = collect_columns(head)
    missing = [field for field in ESSENTIAL if field not in columns]
    near = suggest_columns(columns)
    if not missing or not columns or not (near or (missing == list(ESSENTIAL) and not set(columns) <= set(FIELDS))):
        return
    if "messages" in near and missing == list(ESSENTIAL):  # a dialogue holds both
        near = {field: name for field, name in near.items() if field not in ESSENTIAL}
        missing = []
    lost = [field for field in missing if field not in near]
    wanted = near | dict.fromkeys(lost, "COLUMN")
    wanted = {field: wanted[field] for field in FIELDS if field in wanted}
    remedy = ("Type " if lost and lost == missing else "The nearest fit: ") + _suggest_map(wanted, columns)
    remedy += f"; nothing looks like {' or '.join(lost)}" if lost else ""
    remedy += " (in a config: data.map)."
    if "prompt" in columns:
        remedy += " As prompts alone, for on-policy training, it is read by --format prompts (data.format)."
    expected = "prompt and response, or the columns of a format of docs/formats.md"
    raise DataError(path, None, "columns", list_columns(columns), expected, remedy)


def suggest_columns(columns: Values) -> dict[str, str]:
    """For each field that no column is named after, the first column that seems to be meant for it."""
    found: dict[str, str] = {}
    for name, values in columns.items():
        field = suggest_field(name, values) if name not in KNOWN else None
        if field is not None and field not in columns:
            found.setdefault(field, name)
    return {field: found[field] for field in FIELDS if field in found}


def check_unread(path: str, reader: Reader, head: Sequence[Record]) -> None:
    """Raises one `DataError` where feedback stands in columns that the format does not read, and none of its kind in
    those that it does."""
    if not type(reader).__module__.startswith("feedback.readers.") or not reader.reads_feedback:
        return
    score_range = ScoreRange((-math.inf, math.inf))
    episodes: list[Episode] = []
    for record in reader.merge(path, iter(head)):
        fields = Fields(record, score_range)
        found = reader.parse(fields) if record.error is None else []
        episodes += [] if fields.faults else found
    notes: Values = {}
    for episode in episodes:
        for name, value in _iter_notes(episode.task.meta, with_inner=not list_kinds(episodes)):
            notes.setdefault(name, []).append(value)
    kinds = list_kinds(episodes) | {name for record in head for name in record.columns if name not in notes}
    unread = {
        name: field
        for name, values in notes.items()
        if (field := find_unmistakable(name, values)) is not None and field not in kinds
    }
    if unread:
        raise _build_unread_error(path, reader, unread, notes)


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
    read = f"Type {_suggest_map(mapped, notes)} to read it"
    if not reader.reads_row_columns or not mapped:
        read = f"The format {reader.name} reads no such column: put it into rows or episodes (docs/formats.md)"
    remedy = f"{read}, or {keep} to keep it as a note (in a config: data.map)."
    expected = f"{' and '.join(dict.fromkeys(unread.values()))} under names that the format {reader.name} reads"
    return DataError(path, None, "columns", f"feedback that nothing reads: {said}", expected, remedy)


def _suggest_map(mapped: dict[str, str], columns: Values) -> str:
    """The map to type, with a scale where the scores need one."""
    seen = read_range(columns.get(mapped.get("score", ""), []))
    scale = None if seen is None else suggest_scale(*seen)
    needed = "" if scale is None or scale == (0.0, 1.0) else f" --scale {scale[0]:g} {scale[1]:g}"
    return format_map(mapped) + needed


def suggest_scale(low: float, high: float) -> Scale:
    """The narrowest usual scale that holds a range, or the range itself: a proposal for the user to confirm."""
    return next((scale for scale in USUAL_SCALES if scale[0] <= low and high <= scale[1]), (low, high))


def _describe(values: list[Any]) -> str:
    seen = read_range(values)
    if find_kind(values) != "score" or seen is None:
        return "text" if find_kind(values) == "text" else "true or false"
    return f"numbers from {seen[0]:g} to {seen[1]:g}"
