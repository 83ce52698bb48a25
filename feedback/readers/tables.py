"""Raw records of tables: CSV with the standard library, so that "NA" and "001" stay text, and Parquet with pyarrow.

Spreadsheets set cells apart with semicolons where the comma is the decimal sign, and with tabs on request; the header
shows which it is.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from feedback.faults import DataError, format_value
from feedback.readers.record import Record, decode, parse_json, reject_record

RATIO = 200
"""Times its size that a Parquet file's parts may unpack to."""
FREE = 4 << 20
"""Bytes that a part of any Parquet file may unpack to."""
ROWS = 64
"""Rows that are unpacked at once: each may repeat a value that the file holds once."""
JSON_COLUMN = ":json"
"""A column whose name ends so holds JSON; every other CSV column is text, never guessed at."""


DELIMITERS = (",", ";", "\t")
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
            yield reject_record(place, got, "CSV in UTF-8", 'Quote cells with "…", double inner quotes.')
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
    return _parse_json_columns(place, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _parse_json_columns(place: Record, cells: dict[str, Any]) -> Record:
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


def read_parquet(path: str | Path) -> Iterator[Record]:
    """The rows of a Parquet file; a null is an absent value."""
    import pyarrow.parquet  # heavy, and only this format needs it

    with convert_arrow_errors(path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(path)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        largest = max((group.total_byte_size for group in groups), default=0)
        batches = file.iter_batches(batch_size=ROWS)
    most = max(FREE, RATIO * os.path.getsize(path))
    if largest > most:
        raise DataError(
            path, None, "the file", f"{largest >> 20} MiB in one row group", f"at most {RATIO} times the file's size"
        )
    yield from read_batches(str(path), batches, "Parquet")


def read_batches(path: str, batches: Iterator[Any], kind: str = "a data set") -> Iterator[Record]:
    """The rows of Arrow's record batches; raises `DataError` for one that cannot be decoded."""
    row = 0
    while True:
        with convert_arrow_errors(path, kind):
            batch = next(batches, None)
            rows = [] if batch is None else _list_rows(batch)
        if batch is None:
            return
        columns = tuple(name.removesuffix(JSON_COLUMN) for name in batch.schema.names)
        for fields in rows:
            present = {name: value for name, value in fields.items() if value is not None}
            yield _parse_json_columns(Record(path, row, present, unit="row", columns=columns), present)
            row += 1


def _list_rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch; decimals, which databases write, become numbers."""
    rows = batch.to_pylist()
    return _replace_decimals(rows) if "decimal" in str(batch.schema) else rows


def _replace_decimals(value: Any) -> Any:
    if isinstance(value, list):
        return [_replace_decimals(part) for part in value]
    if isinstance(value, dict):
        return {name: _replace_decimals(part) for name, part in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


@contextmanager
def convert_arrow_errors(path: str | Path, kind: str) -> Iterator[None]:
    """Whatever Arrow raises inside becomes one `DataError` of the file."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.lib.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        got = f"an unreadable file ({type(error).__name__}: {format_value(str(error))})"
        raise DataError(str(path), None, "file", got, kind, "Write it again.") from None
