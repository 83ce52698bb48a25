"""Rows to a file, so that `feedback.readers.read` gives the same rows back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from feedback.readers.rows import COLUMNS
from feedback.readers.tables import JSON_COLUMN

Row = dict[str, Any]


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes records as the file's ending says: .csv, .parquet, anything else JSON Lines. None is an absent value.

    In tables, a column that a cell cannot hold as it is (lists, mixed types, empty text) is written as JSON under a
    name that ends in `:json`. Raises ValueError for values that JSON cannot hold, NaN among them.
    """
    kept = ({name: value for name, value in row.items() if value is not None} for row in rows)
    ending = Path(path).suffix.lower()
    if ending == ".csv":
        _write_csv(path, list(kept))
    elif ending == ".parquet":
        _write_parquet(path, list(kept))
    else:
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(_json(row) + "\n" for row in kept)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _columns(rows: list[Row]) -> list[str]:
    """The names that occur: the canonical ones first, the others as they come."""
    seen = dict.fromkeys(name for row in rows for name in row)
    return [name for name in COLUMNS if name in seen] + [name for name in seen if name not in COLUMNS]


def _packed(rows: list[Row], plain: Callable[[str, list[Any]], bool]) -> tuple[list[str], list[list[Any]]]:
    """Header and columns; a column that is not `plain` becomes JSON text under its marked name."""
    header, columns = [], []
    for name in _columns(rows):
        cells = [row.get(name) for row in rows]
        if not name.endswith(JSON_COLUMN) and plain(name, [cell for cell in cells if cell is not None]):
            header.append(name)
            columns.append(cells)
        else:
            header.append(name + JSON_COLUMN)
            columns.append([None if cell is None else _json(cell) for cell in cells])
    return header, columns


def _text_or_score(name: str, cells: list[Any]) -> bool:
    """What a CSV cell holds as it is: text that is not empty, and scores, which the reader expects as numbers."""
    return all(isinstance(cell, str) and cell for cell in cells) or (
        name == "score" and all(type(cell) in (int, float) for cell in cells))


def _one_type(name: str, cells: list[Any]) -> bool:
    """What a Parquet column holds as it is: one scalar type, or prompts that are all lists of messages."""
    kinds = {type(cell) for cell in cells}
    if kinds == {list} and name == "prompt":
        return True
    return len(kinds) == 1 and kinds <= {str, bool, float, int} and not (
        kinds == {int} and any(abs(cell) >= 2**63 for cell in cells))


def _write_csv(path: str | Path, rows: list[Row]) -> None:
    header, columns = _packed(rows, _text_or_score)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def _write_parquet(path: str | Path, rows: list[Row]) -> None:
    import pyarrow  # heavy, and only this format needs it
    import pyarrow.parquet

    header, columns = _packed(rows, _one_type)
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(header, columns, strict=True))), path)
