"""The one error that bad input raises: what, where, got, expected, remedy, on one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHOWN = 80
"""Characters of a bad value that a message repeats."""


class DataError(ValueError):
    """One thing wrong with one file or one of its records.

    `line` is the physical line (from 1) of a text file, the row (from 0) of a Parquet file (`unit` says which), or
    None when the file as a whole is at fault. `raw` holds the refused record's bytes, `others` further faults of the
    same record. `cause` is set where one thing is wrong with the whole file and shows in many records: it is told once.
    """

    def __init__(self, file: str | Path, line: int | None, field: str, got: str, expected: str, remedy: str = ""):
        super().__init__(file, line, field, got, expected, remedy)
        self.file = str(file)
        self.line = line
        self.field = field
        self.got = got
        self.expected = expected
        self.remedy = remedy
        self.unit = "line"
        self.item = 0
        self.raw = b""
        self.others: tuple[DataError, ...] = ()
        self.cause: str | None = None

    @property
    def where(self) -> str:
        """`file:line` (with the item on the line, where a JSON document has several there), or `file row N` for
        Parquet, or the file alone."""
        if self.line is None:
            return self.file
        place = f"{self.file}:{self.line}" if self.unit == "line" else f"{self.file} row {self.line}"
        return place + (f" item {self.item + 1}" if self.item else "")

    @property
    def reason(self) -> str:
        """The message without its place."""
        return f"got {self.got}, expected {self.expected}" + (f". {self.remedy}" if self.remedy else "")

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.reason}"


def format_value(value: Any) -> str:
    """A value as a message repeats it: Python notation (control characters escaped), one line, cut to `SHOWN`."""
    if isinstance(value, str):
        value = value[: SHOWN + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer beyond Python's digit limit, or nesting without end
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
