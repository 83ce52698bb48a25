"""Data sets of the Hugging Face library: a folder that `save_to_disk` wrote, or one of the hub, named `hf:ORG/NAME`.

Rows are taken from the Arrow tables, before the library decodes pictures or opens paths. It is imported here alone,
and inside a function, since that takes seconds. Only the user's own argument names a data set, never a record.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.record import Record
from feedback.readers.tables.arrow import convert_arrow_errors, read_batches

PREFIX = "hf:"
NAMED = re.compile(r"hf:(?P<name>\w[\w.-]*/\w[\w.-]*)(/(?P<config>[\w.-]+))?(@(?P<split>[\w.-]+))?")


def is_dataset(path: str | Path) -> bool:
    """Whether a path names a data set: a folder, or the prefix of the hub."""
    return str(path).startswith(PREFIX) or os.path.isdir(path)


def read_dataset(path: str) -> Iterator[Record]:
    """The rows of `hf:ORG/NAME[/CONFIG][@SPLIT]`, or of a folder (a split is a folder in it).

    Raises `DataError` where there is no such data set or split.
    """
    named = NAMED.fullmatch(path)
    if path.startswith(PREFIX) and not named:
        raise DataError(
            path, None, "file", format_value(path), "hf:ORG/NAME, hf:ORG/NAME/CONFIG, each with @SPLIT or without"
        )
    if not named and not any((Path(path) / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        raise DataError(path, None, "file", "a directory that holds no data set", "a file, or what save_to_disk wrote")
    with convert_arrow_errors(path, "a data set"):
        table = _load_table(path, named)
    yield from read_batches(path, _iter_batches(table))


def _iter_batches(table: Any) -> Iterator[Any]:
    for batch in table.with_format("arrow").iter(batch_size=1024):
        yield from batch.to_batches()


def _load_table(path: str, named: re.Match[str] | None) -> Any:
    from datasets import Dataset, load_dataset, load_from_disk

    found = load_dataset(named["name"], named["config"], split=named["split"]) if named else load_from_disk(path)
    if isinstance(found, Dataset):
        return found
    if len(found) > 1:
        one = f"{path}@{next(iter(found))}" if named else str(Path(path) / next(iter(found)))
        raise DataError(path, None, "split", "several: " + ", ".join(found), "one", f"Name it, for example {one}.")
    return next(iter(found.values()))
