"""Records to a file, so that `feedback.readers.read` gives the same records back."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

from feedback.readers.formats import episodes, rows
from feedback.readers.tables.cells import JSON_COLUMN
from feedback.sanitize import map_strings, replace_surrogates
from feedback.types import Episode

Row = dict[str, Any]
ORDER = (*rows.COLUMNS, *(name for name in episodes.COLUMNS if name not in rows.COLUMNS))


def write_rows(path: str | Path, records: Iterable[Row]) -> None:
    """Writes records as the file's ending says: .json, .csv, .parquet, anything else JSON Lines; .gz packs them.

    None is an absent value. In tables, a column that a cell cannot hold as it is (lists, mixed types, empty text) is
    written as JSON under a name that ends in `:json`. Lines and lists are written as they come, tables are held whole.
    Raises ValueError for values that JSON cannot hold, NaN among them; dates and decimals become text, and half of a
    surrogate pair, which no file can hold, the replacement character.
    """
    kept = ({name: value for name, value in record.items() if value is not None} for record in records)
    ending = Path(str(path).removesuffix(".gz")).suffix.lower()
    if ending == ".parquet":
        _write_parquet(path, list(kept))
        return
    write = {".csv": _write_csv, ".json": _write_list}.get(ending, _write_lines)
    with _open_text(path) as stream:
        write(stream, kept)


def write_episodes(path: str | Path, found: Iterable[Episode]) -> None:
    """Writes episodes in the canonical shape of dialogues; `write_rows` tells how and what it raises."""
    write_rows(path, map(episodes.build_record, found))


def _open_text(path: str | Path) -> IO[str]:
    if str(path).endswith(".gz"):
        return gzip.open(path, "wt", encoding="utf-8", newline="")
    return open(path, "w", encoding="utf-8", newline="")


def _to_json(value: Any) -> str:
    return replace_surrogates(json.dumps(value, ensure_ascii=False, allow_nan=False, default=str))


def _clean(cell: Any) -> Any:
    """A cell of a table as UTF-8 can hold it."""
    return map_strings(cell, lambda _, text: replace_surrogates(text)) if isinstance(cell, str | list) else cell


def _write_lines(stream: IO[str], records: Iterable[Row]) -> None:
    stream.writelines(_to_json(record) + "\n" for record in records)


def _write_list(stream: IO[str], records: Iterable[Row]) -> None:
    lines = map(_to_json, records)
    stream.write("[\n" + "".join(islice(lines, 1)))
    stream.writelines(",\n" + line for line in lines)
    stream.write("\n]\n")


def _order_columns(records: list[Row]) -> list[str]:
    """The names that occur: the canonical ones first, the others as they come."""
    seen = dict.fromkeys(name for record in records for name in record)
    return [name for name in ORDER if name in seen] + [name for name in seen if name not in ORDER]


def _pack_columns(records: list[Row], plain: Callable[[str, list[Any]], bool]) -> tuple[list[str], list[list[Any]]]:
    """Header and columns; a column that is not `plain` becomes JSON text under its marked name."""
    header = []
    columns = []
    for name in _order_columns(records):
        cells = [_clean(record.get(name)) for record in records]
        if not name.endswith(JSON_COLUMN) and plain(name, [cell for cell in cells if cell is not None]):
            header.append(name)
            columns.append(cells)
        else:
            header.append(name + JSON_COLUMN)
            columns.append([None if cell is None else _to_json(cell) for cell in cells])
    return header, columns


def _is_text_or_score(name: str, cells: list[Any]) -> bool:
    """What a CSV cell holds as it is: text that is not empty, and scores, which the reader expects as numbers."""
    return all(isinstance(cell, str) and cell for cell in cells) or (
        name == "score" and all(type(cell) in (int, float) for cell in cells)
    )


def _has_one_type(name: str, cells: list[Any]) -> bool:
    """What a Parquet column holds as it is: one scalar type, or lists of messages that are words alone."""
    kinds = {type(cell) for cell in cells}
    if kinds == {list} and name in ("prompt", "messages"):
        return all(message.keys() == {"role", "content"} for cell in cells for message in cell)
    return (
        len(kinds) == 1
        and kinds <= {str, bool, float, int}
        and not (kinds == {int} and any(abs(cell) >= 2**63 for cell in cells))
    )


def _write_csv(stream: IO[str], records: Iterable[Row]) -> None:
    header, columns = _pack_columns(list(records), _is_text_or_score)
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))


def _write_parquet(path: str | Path, records: list[Row]) -> None:
    import pyarrow  # heavy, and only this format needs it
    import pyarrow.parquet

    header, columns = _pack_columns(records, _has_one_type)
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(header, columns, strict=True))), path)
