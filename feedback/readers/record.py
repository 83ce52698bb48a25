"""One raw record of a file, and how its bytes become text and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from feedback.faults import DataFault, show


@dataclass(frozen=True)
class Record:
    """One record of a file, or the fault that kept it from being read."""

    file: str
    line: int
    fields: dict[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    unit: str = "line"
    textual: bool = False
    broken: DataFault | None = None

    def fault(self, name: str, got: str, expected: str, remedy: str = "") -> DataFault:
        """A fault placed at this record."""
        fault = DataFault(self.file, self.line, name, got, expected, remedy)
        fault.unit = self.unit
        fault.raw = self.raw or repr(self.fields).encode("utf-8", errors="backslashreplace")  # Parquet has no bytes
        return fault


def broken(place: Record, got: str, expected: str, remedy: str) -> Record:
    """The record at `place`, refused as a whole."""
    fault = place.fault("record", got, expected, remedy)
    return Record(place.file, place.line, raw=place.raw, unit=place.unit, broken=fault)


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"the key {show(next(key for key in keys if keys.count(key) > 1))} twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_pairs)  # made once: json.loads would make one for every line


def parse_json(text: str) -> Any:
    """`json.loads` that refuses repeated keys and text that no encoding can write; raises ValueError."""
    try:
        value = DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("nesting too deep to read") from None
    return value


def decode(place: Record) -> str | Record:
    """The record's bytes as text, or the record refused because they are not UTF-8."""
    try:
        return place.raw.decode("utf-8-sig" if place.line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{place.raw[error.start]:02x} at byte {error.start + 1} of the record"
        return broken(place, got, "UTF-8", "Save the file as UTF-8.")
