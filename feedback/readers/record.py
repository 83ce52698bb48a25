"""One raw record of a file, and how its bytes become text and JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from feedback.faults import DataError, format_value


class Record(msgspec.Struct):
    """One record of a file, or the fault that kept it from being read."""

    file: str
    line: int
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    raw: bytes = b""
    unit: str = "line"
    item: int = 0
    """How many records begin before it on its line, in a JSON document that has several there."""
    is_text_only: bool = False
    """True where every value is text, as in CSV: then a number may be written as text."""
    error: DataError | None = None
    """Why the record as a whole could not be read."""
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the user keeps of it as notes, under these names; no reader looks at them."""
    columns: tuple[str, ...] = ()
    """The columns of the table that it is a row of, those that are empty here included; none where it is no row."""
    has_decimal_comma: bool = False
    """True where numbers may be written as 4,5: in tables whose cells semicolons or tabs set apart."""

    @property
    def name(self) -> str:
        """How an episode is called that has no id of its own."""
        return f"{self.unit}-{self.line}" + (f".{self.item}" if self.item else "")

    def build_error(self, name: str, got: str, expected: str, remedy: str = "") -> DataError:
        """A fault placed at this record."""
        fault = DataError(self.file, self.line, name, got, expected, remedy)
        fault.unit = self.unit
        fault.item = self.item
        fault.raw = self.raw or _as_text(self.fields)  # a row of Parquet has no bytes
        return fault


def _as_text(fields: dict[str, Any]) -> bytes:
    try:
        return repr(fields).encode("utf-8", errors="backslashreplace")
    except (RecursionError, ValueError):  # nesting without end, or an integer beyond Python's digit limit
        return b""


def reject_record(place: Record, got: str, expected: str, remedy: str) -> Record:
    """The record at `place`, refused as a whole."""
    fault = place.build_error("record", got, expected, remedy)
    return Record(place.file, place.line, raw=place.raw, unit=place.unit, item=place.item, error=fault)


def _reject_duplicates(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"the key {format_value(next(key for key in keys if keys.count(key) > 1))} twice")
    return found


QUICK = msgspec.json.Decoder()
DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicates)  # made once: json.loads would make one for every line


def parse_json_at(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at `start`, and where it ends.

    Raises ValueError for what is none, for repeated keys, and for text that no encoding can write.
    """
    try:
        value, end = DECODER.raw_decode(text, start)
        part = text[start:end]
        if "\\ud" in part or "\\uD" in part:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("nesting too deep to read") from None
    return value, end


def parse_json(text: str) -> Any:
    """The one JSON value of a text; raises ValueError as `parse_json_at` does, and for anything after it."""
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end = parse_json_at(text, start)
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"Extra data at column {end + 1}")
    return value


def parse_json_fast(raw: bytes) -> dict[str, Any] | None:
    """A JSON object at the speed of C, or None where the slow reader must explain, or skip a byte order mark.

    The decoder is strict but lets a repeated key pass, so the strings of the value are counted against its quotes.
    """
    try:
        value = QUICK.decode(raw)
        if type(value) is not dict:
            return None
        strings = _count_strings(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"")
        quotes = raw.count(b'"') - raw.count(b'\\"')
    else:
        quotes = raw.count(b'"')
    return value if quotes == 2 * strings else None


def _count_strings(value: dict[str, Any]) -> int:
    """How many strings stand in an object, keys included."""
    found = len(value)
    for part in value.values():
        kind = type(part)
        if kind is str:
            found += 1
        elif kind is list:
            found += _count_list_strings(part)
        elif kind is dict:
            found += _count_strings(part)
    return found


def _count_list_strings(values: list[Any]) -> int:
    found = 0
    for part in values:
        kind = type(part)
        if kind is str:
            found += 1
        elif kind is list:
            found += _count_list_strings(part)
        elif kind is dict:
            found += _count_strings(part)
    return found


def decode(place: Record) -> str | Record:
    """The record's bytes as text, or the record refused because they are not UTF-8."""
    try:
        return place.raw.decode("utf-8-sig" if place.line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{place.raw[error.start]:02x} at byte {error.start + 1} of the record"
        return reject_record(place, got, "UTF-8", "Save the file as UTF-8.")
