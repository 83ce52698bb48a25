"""Rows to a file, so that `feedback.readers.read` gives the same rows back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes records as JSON Lines; absent values (None) are left out."""
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            kept = {name: value for name, value in row.items() if value is not None}
            stream.write(json.dumps(kept, ensure_ascii=False, allow_nan=False) + "\n")
