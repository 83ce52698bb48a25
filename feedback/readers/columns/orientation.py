"""A table written as one object of columns, where a record a row is wanted: what pandas' `to_json` and `to_dict` give
unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.columns.fit import collect_columns, collect_inner, suggest_columns
from feedback.readers.columns.mapping import list_columns
from feedback.readers.record import Record

REMEDY = (
    "Write the rows out: with pandas df.to_json(PATH, orient='records', lines=True), with datasets data.to_json(PATH)."
)
SPLIT = frozenset({"columns", "data"})
"""The keys of pandas' orientation `split`, beside `index`; `table` has `schema` in place of `columns`."""


def check_orientation(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where a file is one object whose values are whole columns."""
    if len(head) != 1 or head[0].error is not None:
        return
    columns = head[0].fields
    if _holds_split(columns) or _holds_columns(columns):
        got = f"one object of whole columns: {list_columns(columns)}"
        raise DataError(path, None, "file", got, "an object for each row", REMEDY)


def check_headers(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where further lines of a survey's header stand among the rows."""
    for record in head[:3]:
        if any(isinstance(value, str) and value.startswith('{"ImportId"') for value in record.fields.values()):
            got = f"a header of several lines, with ImportId in line {record.line}"
            remedy = "Remove the lines between the names of the columns and the first answer."
            raise DataError(path, None, "header", got, "one line with the names of the columns", remedy)


def check_wrapping(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where a file is one object that holds the rows somewhere inside."""
    if len(head) != 1 or head[0].error is not None:
        return
    if suggest_columns(collect_columns(head) | collect_inner(head)).keys() & {"prompt", "response", "messages"}:
        return  # one row, with lists in it
    place = _find_rows(head[0].fields)
    if place is not None:
        got = f"one object that holds the rows in {format_value(place)}"
        remedy = f"Write that list alone, as jq {format_value('.' + place)} does."
        raise DataError(path, None, "file", got, "a list of rows, or one a line", remedy)


def _find_rows(record: dict[str, Any], depth: int = 3) -> str | None:
    """The dotted name of the first list of objects that are no messages; None where there is none."""
    for name, value in record.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            if not any(key in item for item in value for key in ("role", "from", "type")):
                return name
        elif isinstance(value, dict) and depth and (inner := _find_rows(value, depth - 1)):
            return f"{name}.{inner}"
    return None


def _holds_split(columns: dict[str, Any]) -> bool:
    names = columns.get("columns", columns.get("schema"))
    rest = columns.keys() - SPLIT - {"index", "schema"}
    return not rest and isinstance(columns.get("data"), list) and isinstance(names, (list, dict))


def _holds_columns(columns: dict[str, Any]) -> bool:
    """Whether every value is a list of the same length, at least one of cells that are no messages, or an object with
    the same row numbers, or the names are row numbers."""
    values = list(columns.values())
    if len(values) < 2:
        return False
    if all(isinstance(value, dict) for value in values):
        if all(name.isdigit() for name in columns):  # a row behind each number
            return True
        keys = values[0].keys()
        return bool(keys) and all(key.isdigit() for key in keys) and all(value.keys() == keys for value in values)
    if not all(isinstance(value, list) and value for value in values):
        return False
    alike = len({len(value) for value in values}) == 1
    return alike and any(not isinstance(cell, (dict, list)) for value in values for cell in value)
