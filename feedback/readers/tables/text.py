"""Raw records of tables as text: CSV with the standard library, so that "NA" and "001" stay text.

Spreadsheets set cells apart with semicolons where the comma is the decimal sign, and with tabs on request; the header
shows which it is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO

from feedback.faults import DataError, format_value
from feedback.readers.columns.mapping import FIELDS
from feedback.readers.record import Record, decode, reject_record
from feedback.readers.tables.cells import JSON_COLUMN, parse_json_columns

DELIMITERS = (",", ";", "\t", "|")
"""What may set the cells of a CSV file apart; the first that cuts its header into several."""
DIRECTIVE = "sep="
"""How a first line begins that names the delimiter, which Excel writes and reads."""


class _Lines:
    """Physical lines of a file as text for `csv.reader`, with the bytes taken since the last record."""

    def __init__(self, path: str, stream: IO[bytes]):
        self.path = path
        self.stream = stream
        self.number = 0
        self.first = 1
        self.raw = b""
        self.error: DataError | None = None
        self.has_decimal_comma = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = next(self.stream)
        self.number += 1
        self.raw += raw
        text = decode(Record(self.path, self.number, raw=raw))
        if isinstance(text, Record):
            self.error = text.error
            return raw.decode("utf-8", errors="replace")
        return text

    def take_record(self) -> tuple[Record, DataError | None]:
        """The place of the record just read, and the fault of its bytes; starts the next record."""
        decimal_comma = self.has_decimal_comma
        place = Record(self.path, self.first, raw=self.raw, is_text_only=True, has_decimal_comma=decimal_comma)
        error = self.error
        self.first = self.number + 1
        self.raw = b""
        self.error = None
        return place, error


def read_csv(path: str, stream: IO[bytes]) -> Iterator[Record]:
    """The records of a CSV file with a header line, quoted as RFC 4180 says; an empty cell is an absent value.

    Cells are set apart by the first of `DELIMITERS` that cuts the header into several. Beside semicolons and tabs a
    number may have a decimal comma.
    """
    csv.field_size_limit(2**31 - 1)  # the module's default refuses cells beyond 128 KiB
    lines = _Lines(path, stream)
    delimiter = _find_delimiter(stream, lines)
    lines.has_decimal_comma = delimiter != ","
    rows = csv.reader(lines, strict=True, delimiter=delimiter)
    header: list[str] | None = None
    while True:
        cells: list[str] = []
        wrong = ""
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = f"bad CSV ({error})"
        place, fault = lines.take_record()
        if wrong or fault:
            got = wrong or (fault.got if fault else "")
            remedy = 'Quote cells with "…", double inner quotes.' if wrong else "Save the file as UTF-8."
            yield reject_record(place, got, "CSV in UTF-8", remedy)
            if header is None:
                return
        elif cells and header is None:
            header = _check_header(place, cells)
        elif cells and header is not None:
            yield _build_csv_record(place, header, cells)


def _find_delimiter(stream: IO[bytes], lines: _Lines) -> str:
    """What sets the cells of the header apart; a first line that says so is passed over."""
    first = stream.readline().decode("utf-8-sig", errors="replace").strip("\r\n")
    if first.startswith(DIRECTIVE) and len(first) == len(DIRECTIVE) + 1:
        lines.number = 1
        lines.first = 2
        return first[-1]
    stream.seek(0)
    counts = {delimiter: _count_cells(first, delimiter) for delimiter in DELIMITERS}
    return next((delimiter for delimiter, count in counts.items() if count > 1), ",")


def _count_cells(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _check_header(place: Record, cells: list[str]) -> list[str]:
    cells = [cell.strip() if cell.strip() in FIELDS else cell for cell in cells]
    names = [cell.removesuffix(JSON_COLUMN) for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise place.build_error(
            "header", f"the column {format_value(twice)} twice", "each column once", "Rename one of them."
        )
    return cells


def _build_csv_record(place: Record, header: list[str], cells: list[str]) -> Record:
    if len(cells) != len(header):
        return reject_record(
            place, f"{len(cells)} cells", f"{len(header)}, as in the header", "Quote cells that hold commas."
        )
    place.columns = tuple(name.removesuffix(JSON_COLUMN) for name in header)
    return parse_json_columns(place, {name: cell for name, cell in zip(header, cells, strict=True) if cell})
