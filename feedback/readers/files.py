"""From a file to raw records: which kind of file it is, and JSON, in lines or as one document, gzipped or not.

Nothing here knows what a record means. A record that cannot be read becomes a `Record` with a fault, so that the
readers above can count it; only a file that cannot be opened or unpacked at all raises.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from feedback.faults import DataError
from feedback.readers.hub import is_dataset, read_dataset
from feedback.readers.record import Record, decode, parse_json, parse_json_at, parse_json_fast, reject_record
from feedback.readers.tables.arrow import read_parquet
from feedback.readers.tables.inflation import BoundedGzip
from feedback.readers.tables.signatures import LONGEST, check_signature
from feedback.readers.tables.text import find_delimiter, is_header, read_csv

FastJson = Callable[[bytes], dict[str, Any] | None]
REMEDY = "Write one JSON object a line."
LINES = ("jsonl", "ndjson", "jl")
"""Endings of files of one JSON object a line."""
DOCUMENTS = ("json", "traj")
"""Endings of files that may hold one JSON value over many lines."""
TABLES = ("csv", "tsv", "tab")
"""Endings of tables as text."""


def open_file(path: str | Path) -> IO[bytes]:
    """The file's bytes, unpacked if they are gzipped, and then no more of them than a file of its size may hold."""
    stream = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return io.BufferedReader(BoundedGzip(path, stream)) if packed else stream


def detect_kind(path: str | Path) -> str:
    """jsonl, json, csv (with tabs or semicolons too) or parquet, by the first bytes or the file's ending.

    Raises `DataError` where nothing can be read.
    """
    name = str(path)
    try:
        with open_file(path) as stream:
            head = stream.read(LONGEST)
            rest = b"" if b"\n" in head else stream.readline()
            start = (head.partition(b"\n")[0] + rest).removeprefix(b"\xef\xbb\xbf").strip()
    except FileNotFoundError:
        raise DataError(name, None, "file", "nothing there", "a file", "Check the path.") from None
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(name, None, "file", str(error), "a readable file", "Check the path and its rights.") from None
    if not head:
        raise DataError(name, None, "file", "an empty file", "at least one record", "Check how it was written.")
    if head[:4] == b"PAR1":
        return "parquet"
    check_signature(name, head)
    return _tell_text(Path(name.removesuffix(".gz")).suffix.lower().lstrip("."), start)


def _tell_text(ending: str, start: bytes) -> str:
    """The kind of a file by its ending and its first line, which goes before where the two contradict each other."""
    if ending == "parquet":
        return "parquet"
    is_object = parse_json_fast(start) is not None
    if ending in DOCUMENTS or (start == b"{" and ending not in TABLES):
        return "jsonl" if is_object else "json"
    if ending in TABLES:
        return "jsonl" if is_object else "csv"
    if start[:1] == b"[" and start[1:].lstrip()[:1] in (b"", b"{"):
        return "json"
    is_parted = start[:1] not in (b"{", b"[") and find_delimiter(start) not in (None, "|")
    return "csv" if is_parted and (ending not in LINES or is_header(start)) else "jsonl"


def read_records(path: str | Path, decode_line: FastJson = parse_json_fast) -> Iterator[Record]:
    """All records of a file in order; blank lines are none. Raises `DataError` for a file that is not readable.

    `decode_line` decodes a JSON line, or gives None for one that needs the reader that explains.
    """
    if is_dataset(path):
        yield from read_dataset(str(path))
        return
    kind = detect_kind(path)
    if kind == "parquet":
        yield from read_parquet(path)
        return
    try:
        with open_file(path) as stream:
            if kind == "jsonl":
                yield from read_json_lines(str(path), stream, decode_line)
            else:
                yield from {"json": read_json_document, "csv": read_csv}[kind](str(path), stream)
    except (EOFError, OSError, zlib.error) as error:
        got = f"a file that breaks off or is damaged ({error})"
        raise DataError(str(path), None, "file", got, "a whole file", "Copy it again.") from None


def read_json_lines(path: str, stream: IO[bytes], decode_line: FastJson) -> Iterator[Record]:
    """The records of a JSON Lines file: one object a line."""
    for line, raw in enumerate(stream, 1):
        value = decode_line(raw)
        if value is not None:
            yield Record(path, line, value, raw)
        elif raw.strip():
            yield from _parse_line(Record(path, line, raw=raw))


def _parse_line(place: Record) -> Iterator[Record]:
    text = decode(place)
    if isinstance(text, Record):
        yield text
    elif text.strip():
        try:
            value = parse_json(text)
        except ValueError as error:
            yield reject_record(place, f"bad JSON ({error})", "a JSON object", REMEDY)
        else:
            yield _to_record(place, value)


def _to_record(place: Record, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(place.file, place.line, value, place.raw, item=place.item)
    return reject_record(place, f"a JSON {type(value).__name__}", "a JSON object", REMEDY)


def read_json_document(path: str, stream: IO[bytes]) -> Iterator[Record]:
    """The records of a JSON document: the objects of a list, or one object. After a mistake nothing more is read."""
    whole = decode(Record(path, 1, raw=stream.read()))
    if isinstance(whole, Record):
        yield whole
        return
    at = 0
    line = 1
    counted = 0
    item = -1
    try:
        for at, end, value in _iter_elements(whole):
            passed = whole.count("\n", counted, at)
            item = 0 if passed else item + 1
            line += passed
            counted = at
            yield _to_record(Record(path, line, raw=whole[at:end].encode(), item=item), value)
            at = end
    except ValueError as error:
        at = _skip_blanks(whole, at)
        at = _skip_blanks(whole, at + 1) if whole[at : at + 1] == "," else at
        place = Record(path, line + whole.count("\n", counted, at), raw=whole[at:].encode())
        yield reject_record(place, f"bad JSON ({error})", "a list of JSON objects", "Nothing below it was read.")


def _iter_elements(text: str) -> Iterator[tuple[int, int, Any]]:
    """Start, end and value of each element of a list, or of the one value that is none; raises ValueError."""
    at = _skip_blanks(text, 0)
    if text[at : at + 1] != "[":
        value, end = parse_json_at(text, at)
        yield at, end, value
    else:
        end = _skip_blanks(text, at + 1)
        while text[end : end + 1] != "]":
            value, after = parse_json_at(text, end)
            yield end, after, value
            end = _skip_blanks(text, after)
            if text[end : end + 1] == ",":
                end = _skip_blanks(text, end + 1)
                if text[end : end + 1] == "]":
                    raise ValueError("a comma before the end of the list")
            elif text[end : end + 1] != "]":
                raise ValueError("no comma between two elements")
        end += 1
    if text[_skip_blanks(text, end) :]:
        raise ValueError("more after the end")


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
