"""Columns under other names: which column is which field, as `--map prompt=Question` and `data.map` say."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from feedback.faults import DataError, format_value
from feedback.readers.columns.names import is_reversed
from feedback.readers.columns.packed import parse_messages
from feedback.readers.record import Record
from feedback.types import Episode

FIELDS = (
    *("id", "task", "prompt", "response", "score", "critique", "revision", "reference", "annotator", "source"),
    *("finished", "scores", "preferences", "tools", "messages", "feedback", "start", "completion", "label"),
    *("chosen", "rejected", "privileged_context", "system"),
)
"""What a column may be mapped to: the fields of rows, of episodes and of TRL's records."""
NOTE = "meta."
"""Before the name of a note: `meta.rating=rating` says that a column is no feedback, and keeps it."""
DISPLACED = "original_"
"""Before the name of a column whose place a mapped one takes."""
SYSTEM = "system"
"""The field of words that become the first message."""
TURNS = ("messages", "prompt", "chosen", "rejected")
"""The fields that it may be put before."""
Columns = Mapping[str, str]


def check_map(columns: Columns) -> None:
    """Raises `DataError` for a field that there is not, or one column that is two fields."""
    for field, column in columns.items():
        if not isinstance(column, str) or not column:
            raise DataError("config", None, "map", format_value(column), f"the column that is {field}")
        if field not in FIELDS and (not field.startswith(NOTE) or field == NOTE):
            near = difflib.get_close_matches(field, FIELDS, n=1)
            remedy = f"Did you mean {near[0]}? " if near else ""
            remedy += f"{_format_pair(NOTE + field, column)} keeps it as a note."
            raise DataError("config", None, "map", format_value(field), f"one of {', '.join(FIELDS)}", remedy)
    twice = [column for column in columns.values() if list(columns.values()).count(column) > 1]
    if twice:
        raise DataError("config", None, "map", f"{format_value(twice[0])} twice", "each column for one field")


def warn_of_reversed(path: str, columns: Columns) -> None:
    """Says where a column whose name says that a high value is bad was mapped to a score, which is learned as good."""
    for field in ("score", "label"):
        column = columns.get(field)
        if column is not None and is_reversed(column, "score"):
            warnings.warn(
                f"{path}: {field}={format_column(column)}: a high value of this column is learned as good, and its "
                "name says that it is bad; write the opposite into a column of its own, unless the name misleads",
                stacklevel=4,
            )


def map_record(record: Record, columns: Columns) -> Record:
    """The record with its columns under the names of their fields, and its notes apart from them.

    One that cannot be read stays as it is.
    """
    if record.error is not None or not columns:
        return record
    given = {field: get_column(record.fields, column) for field, column in columns.items()}
    notes = {field.removeprefix(NOTE): value for field, value in given.items() if field.startswith(NOTE)}
    # A mark of right or wrong is a score; a score under its own name must be a number.
    found = {
        field: float(value) if field == "score" and isinstance(value, bool) else value
        for field, value in given.items()
        if value is not None and not field.startswith(NOTE)
    }
    names = {column: field for field, column in columns.items() if not field.startswith(NOTE)}
    left = [name for name in record.fields if name not in columns.values()]
    kept = {f"{DISPLACED}{name}" if name in names.values() else name: record.fields[name] for name in left}
    header = [names.get(name, name) for name in record.columns if name in names or name not in columns.values()]
    notes = {name: value for name, value in notes.items() if value is not None}
    words = found.pop(SYSTEM, None)
    if isinstance(words, str) and words.strip():
        kept = put_system_first(words, found | kept)
    return msgspec.structs.replace(record, fields=found | kept, notes=notes, columns=tuple(header))


def put_system_first(words: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with a system's message at the beginning of the dialogue, of the prompt, else of both answers."""
    places = [name for name in TURNS if name in fields]
    first = places[:1] if places and places[0] in ("messages", "prompt") else places
    message = {"role": SYSTEM, "content": words}
    changed = {}
    for name in first:
        value = fields[name]
        if isinstance(value, str) and name in ("messages", "prompt"):
            value = _unpack(value) or [{"role": "user", "content": value}]
        changed[name] = [message, *value] if isinstance(value, list) else value
    return fields | changed


def _unpack(text: str) -> list[Any] | None:
    """Messages as JSON text; None for any other, and for what the reader will refuse."""
    try:
        return parse_messages(text)
    except ValueError:
        return None


def add_notes(record: Record, episodes: list[Episode]) -> list[Episode]:
    """The episodes of a record, its notes with those of their tasks."""
    if not record.notes:
        return episodes
    return [replace(each, task=replace(each.task, meta=each.task.meta | record.notes)) for each in episodes]


def map_records(records: Iterable[Record], columns: Columns) -> Iterator[Record]:
    """All records, each with its columns under the names of their fields."""
    return (map_record(record, columns) for record in records)


def get_column(fields: dict[str, Any], column: str) -> Any:
    """The value of a column, or else at a dotted path into it, items of lists by number; None where it is absent."""
    if column in fields or "." not in column:
        return fields.get(column)
    value: Any = fields
    for part in column.split("."):
        value = value.get(part) if isinstance(value, dict) else _get_item(value, part)
    return value


def _get_item(value: Any, part: str) -> Any:
    """The item of a list that a number in a path names; None where there is none."""
    is_there = isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) < 9
    return value[int(part)] if is_there and int(part) < len(value) else None


def check_presence(path: str, records: Iterable[Record], columns: Columns) -> None:
    """Raises `DataError` for a mapped column that no record has; reads on only while one is missing."""
    missing = dict.fromkeys(columns.values())
    seen: dict[str, None] = {}
    for record in records:
        if record.error is None:
            present = dict.fromkeys((*record.columns, *record.fields))
            seen |= present if len(seen) < 100 else {}
            found = [name for name in missing if name in present or get_column(record.fields, name) is not None]
            missing = {name: None for name in missing if name not in found}
        if not missing:
            return
    name = next(iter(missing), None)
    if name is not None and seen:
        near = difflib.get_close_matches(name, seen, n=1)
        remedy = f"Did you mean {format_value(near[0])}?" if near else "Correct its name in the map."
        raise DataError(path, None, "map", f"no column {format_value(name)}", f"one of {list_columns(seen)}", remedy)


def keep_present(head: Iterable[Record], columns: Columns) -> dict[str, str]:
    """Those of the columns that some of the records have; raises `DataError` as `check_map`."""
    check_map(columns)
    records = list(head)
    return {
        field: column
        for field, column in columns.items()
        if any(column in record.columns or get_column(record.fields, column) is not None for record in records)
    }


def list_columns(names: Iterable[str], most: int = 20) -> str:
    """Columns as a message repeats them."""
    given = list(names)
    shown = ", ".join(format_value(name) for name in given[:most])
    return shown + (f" and {len(given) - most} more" if len(given) > most else "")


def format_column(name: str) -> str:
    """A column's name as a shell takes it: in quotes where it needs them."""
    return name if name and all(letter.isalnum() or letter in "_-." for letter in name) else _quote(name)


def _quote(name: str) -> str:
    """In quotes; with a line break or another sign that cannot be typed, or with `!`, which a backslash within quotes
    does not tame, as bash and zsh write it: `$'a\\nb'`."""
    if not name.isprintable() or "!" in name:
        return f"$'{''.join(map(_escape, name))}'"
    inner = "".join(f"\\{letter}" if letter in '"\\$`' else letter for letter in name)
    return f'"{inner}"'


def _escape(letter: str) -> str:
    """A letter within `$'...'`."""
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    number = ord(letter)
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def format_map(columns: Columns) -> str:
    """The option to type and the setting of a config that map these columns."""
    return f"--map {' '.join(_format_pair(field, column) for field, column in columns.items())}"


def _format_pair(field: str, column: str) -> str:
    """One pair as a shell takes it; the name of a note may need quotes as well as its column."""
    if format_column(field) != field:
        return _quote(f"{field}={column}")
    return f"{field}={format_column(column)}"
