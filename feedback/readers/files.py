"""From a file to raw records: which kind of file it is, and JSON Lines.

Nothing here knows what a record means. A record that cannot be read becomes a `Record` with a fault, so that the
readers above can count it; only a file that cannot be opened at all raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from feedback.faults import DataFault
from feedback.readers.record import Record, broken, decode, parse_json
from feedback.readers.tables import csv_records, parquet_records


def kind_of(path: str | Path) -> str:
    """jsonl, csv or parquet, by the first bytes or the file's ending; raises `DataFault` where nothing can be read."""
    name = str(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(4)
    except FileNotFoundError:
        raise DataFault(name, None, "file", "nothing there", "a file", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise DataFault(name, None, "file", str(error), "a readable file", "Check the path and its rights.") from None
    if not head:
        raise DataFault(name, None, "file", "an empty file", "at least one record", "Check how it was written.")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataFault(name, 1, "encoding", "UTF-16", "UTF-8", "Save the file as UTF-8.")
    if head == b"PAR1":
        return "parquet"
    ending = Path(path).suffix.lower().lstrip(".")
    return ending if ending in ("csv", "parquet") else "jsonl"


def records(path: str | Path) -> Iterator[Record]:
    """All records of a file in order; blank lines are none. Raises `DataFault` for a file that is not readable."""
    return {"jsonl": json_records, "csv": csv_records, "parquet": parquet_records}[kind_of(path)](path)


def json_records(path: str | Path) -> Iterator[Record]:
    """The records of a JSON Lines file: one object a line."""
    remedy = "Write one JSON object a line."
    with open(path, "rb") as stream:
        for line, raw in enumerate(stream, 1):
            place = Record(str(path), line, raw=raw)
            text = decode(place)
            if isinstance(text, Record):
                yield text
            elif text.strip():
                try:
                    value = parse_json(text)
                except ValueError as error:
                    yield broken(place, f"bad JSON ({error})", "a JSON object", remedy)
                    continue
                if isinstance(value, dict):
                    yield Record(str(path), line, value, raw)
                else:
                    yield broken(place, f"a JSON {type(value).__name__}", "a JSON object", remedy)
