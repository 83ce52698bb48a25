"""Cells that hold JSON: columns whose name says so, of tables as text and of Arrow alike."""

from __future__ import annotations

from typing import Any

from feedback.faults import format_value
from feedback.readers.record import Record, parse_json, reject_record

JSON_COLUMN = ":json"
"""A column whose name ends so holds JSON; every other CSV column is text, never guessed at."""


def parse_json_columns(place: Record, cells: dict[str, Any]) -> Record:
    """The record with the cells of JSON columns parsed."""
    fields: dict[str, Any] = {}
    for name, cell in cells.items():
        if name.endswith(JSON_COLUMN) and isinstance(cell, str):
            try:
                fields[name.removesuffix(JSON_COLUMN)] = parse_json(cell)
            except ValueError as error:
                return reject_record(
                    place, f"bad JSON in column {format_value(name)} ({error})", "JSON", "Rename the column."
                )
        else:
            fields[name] = cell
    place.fields = fields
    return place
