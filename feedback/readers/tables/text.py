"""Raw records of tables as text: CSV with the standard library, so that "NA" and "001" stay text.

Spreadsheets set cells apart with semicolons where the comma is the decimal sign, and with tabs on request; the header
shows which it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import IO

from feedback.faults import DataError, format_value
from feedback.readers.columns.mapping import FIELDS
from feedback.readers.columns.names import suggest_field
from feedback.readers.record import Record, decode, reject_record
from feedback.readers.tables.cells import JSON_COLUMN, parse_json_columns

DELIMITERS = (",", ";", "\t", "|")
"""What may set the cells of a CSV file apart; the first that cuts its header into several."""
HEAD = 64 * 1024
"""How many bytes beyond the header are read to find out, which hold a row unless it is a book."""
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
    """The records of a CSV file with a header line, quoted as RFC 4180 says.

    An empty cell is an absent value, and a row of them is none. Cells beyond the last column with a name must be empty.

    Cells are set apart by the first of `DELIMITERS` that cuts the header into several. Beside semicolons and tabs a
    number may have a decimal comma.
    """
    csv.field_size_limit(2**31 - 1)  # the module's default refuses cells beyond 128 KiB
    lines = _Lines(path, stream)
    delimiter = _start_after_directive(stream, lines)
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
            remedy = _explain_csv(wrong)
            yield reject_record(place, got, "CSV in UTF-8", remedy)
            if header is None:
                return
        elif header is None:
            header = _check_header(place, cells) if any(cell.strip() for cell in cells) else None
        elif any(cells):
            yield _build_csv_record(place, header, cells)


def _explain_csv(wrong: str) -> str:
    """What to do about a record that is no CSV; empty: its bytes are no UTF-8."""
    if "new-line character" in wrong:
        return "Lines end as on old Macs; save the file with line ends of Unix or Windows."
    return 'Quote cells with "…", double inner quotes.' if wrong else "Save the file as UTF-8."


def find_delimiter(start: bytes) -> str | None:
    """What sets the cells of a table apart, from the bytes that it starts with: the first of `DELIMITERS` that cuts its
    header into several; where several do, the one under which most columns have names that we know, then the one that
    cuts the header, and the row below it alike, into most. None where none does."""
    text = start.decode("utf-8-sig", errors="replace")
    heads = {delimiter: _read_head(text, delimiter) for delimiter in DELIMITERS}
    several = [delimiter for delimiter, (header, _) in heads.items() if len(header) > 1]
    return max(several, key=lambda each: _rate_head(*heads[each]), default=None)


def is_header(line: bytes) -> bool:
    """Whether a line is the header of a table: some of its cells are names of columns that we know, none is JSON."""
    cells, _ = _read_head(line.decode("utf-8-sig", errors="replace"), find_delimiter(line) or ",")
    is_plain = not any(mark in cell for cell in cells for mark in '{}":')
    return is_plain and any(cell.strip() in FIELDS or suggest_field(cell, ["words"]) for cell in cells)


def _rate_head(header: list[str], row: list[str]) -> tuple[int, int]:
    """How well a delimiter cuts: the columns known by name, and all columns where the row has as many cells."""
    return sum(cell.strip() in FIELDS for cell in header), len(header) if len(header) == len(row) else 0


def _read_head(text: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The cells of the header and of the first row, which may go over several lines; empty where there is none."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return next(rows, []), next(rows, [])
    except csv.Error:
        return [], []


def _start_after_directive(stream: IO[bytes], lines: _Lines) -> str:
    """What sets the cells apart; a first line that says so is passed over."""
    header = stream.readline()
    first = header.decode("utf-8-sig", errors="replace").strip("\r\n").strip('"')
    if first.startswith(DIRECTIVE) and len(first) == len(DIRECTIVE) + 1:
        lines.number = 1
        lines.first = 2
        return first[-1]
    start = header + stream.read(HEAD)
    stream.seek(0)
    return find_delimiter(start) or ","


def _check_header(place: Record, cells: list[str]) -> list[str]:
    given = len(cells)
    while not cells[-1].strip():  # spreadsheets write columns that once held something
        cells = cells[:-1]
    if len(cells) == 1 < given:
        got = f"{format_value(cells[0])} alone before empty cells"
        raise place.build_error("header", got, "a name for each column", "Remove what stands above the header.")
    cells = [cell.strip() if cell.strip() in FIELDS else cell for cell in cells]
    names = [cell.removesuffix(JSON_COLUMN) for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise place.build_error(
            "header", f"the column {format_value(twice)} twice", "each column once", "Rename one of them."
        )
    return cells


def _build_csv_record(place: Record, header: list[str], cells: list[str]) -> Record:
    while len(cells) > len(header) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(header):
        more = "Quote cells that hold commas." if len(cells) > len(header) else "Write the empty cells too."
        return reject_record(place, f"{len(cells)} cells", f"{len(header)}, as in the header", more)
    place.columns = tuple(name.removesuffix(JSON_COLUMN) for name in header)
    return parse_json_columns(place, {name: cell for name, cell in zip(header, cells, strict=True) if cell})
