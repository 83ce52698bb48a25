"""The splits of a feedback file: read and checked, or as they were stored when the same bytes were read before."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from lightning.pytorch.utilities import rank_zero_info

import fdt
import feedback
from fdt.data.splits import DataSplits, load_from_file, locate
from fdt.policy.hub import get_cache_root
from fdt.rollout.stored.hashes import LONG, get_stamp, hash_data, is_settled
from fdt.rollout.stored.rows import StoredEpisodes, StoredTasks
from fdt.rollout.stored.write import SUMMARY, Summary, write_store
from feedback.readers import FORMATS, Reader, read_tasks
from feedback.readers.columns.mapping import Columns
from feedback.readers.files import detect_kind
from feedback.readers.hub import is_dataset
from feedback.types import Task

MOST_STORES = 8
"""Stores that are kept; of more, those that were used longest ago are deleted."""
TEXT = ("jsonl", "json", "csv")
"""Kinds of file whose values are all of types that a store gives back as they were."""


@dataclass(frozen=True)
class StoredSplits(DataSplits):
    """Splits whose rows lie on the disk."""

    summary: Summary | None = None

    @property
    def has_targets(self) -> bool:
        return self.summary is not None and self.summary.has_targets

    def attach_targets(self) -> tuple[Sequence[Task], int]:
        if self.summary is None or not isinstance(self.heldout, StoredTasks):
            return super().attach_targets()
        return self.heldout.attach_targets(), self.summary.num_references


def load_splits(
    file: str,
    format: str | Reader,
    scale: Sequence[float] | None,
    heldout: float | str | None,
    seed: int,
    columns: Columns | None = None,
) -> DataSplits:
    """As `fdt.data.splits.load_from_file`, whose arguments and errors it has. What it read of a long file is stored
    under the SHA-256 of its bytes, and taken from there when the same file is read in the same way again."""
    load = partial(load_from_file, file, format, scale, heldout, seed, columns)
    path = locate(file)
    if heldout is None or not can_store(path, format):
        return load()
    stamp = get_stamp(path)
    share = "file" if isinstance(heldout, str) else heldout
    how = (str(path), format, list(scale or ()), share, seed, columns or {})
    folder = get_cache_root() / "rows" / name_store(hash_data(path), how)
    found = open_store(folder, path, heldout, columns)
    if found is None:
        with keep_warnings() as told:
            splits = load()
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the ranks on a machine one writes
        if not first or not is_settled(stamp) or get_stamp(path) != stamp:
            return splits
        try:
            write_store(folder, splits, not isinstance(heldout, str), told)
        except (OSError, ValueError, TypeError, OverflowError) as fault:
            rank_zero_info(f"{path}: its rows are not stored, so that the next start reads them again ({fault})")
            return splits
        drop_stores(folder.parent)
        return open_store(folder, path, heldout, columns) or splits
    for text in found.summary.warnings if found.summary else ():
        warnings.warn(text, stacklevel=2)
    return found


def can_store(path: Path, format: str | Reader) -> bool:
    """Whether a file is long, of text, and read by code that lies in this project."""
    if is_dataset(path) or not path.is_file() or path.stat().st_size < LONG:
        return False
    return isinstance(format, str) and format.split(":")[0] in FORMATS and detect_kind(path) in TEXT


def name_store(content: str, how: object) -> str:
    """The folder's name: a hash of the file's, of how it is read, and of the code that reads."""
    packages = [Path(str(package.__file__)).parent for package in (feedback, fdt)]
    code = [
        (path.name, status.st_size, status.st_mtime_ns)
        for package in packages
        for path in sorted(package.rglob("*.py"))
        if (status := path.stat())
    ]
    versions = (fdt.__version__, msgspec.__version__, platform.python_version())
    return hashlib.sha256(repr((content, how, versions, code)).encode()).hexdigest()[:32]


def open_store(folder: Path, path: Path, heldout: float | str, columns: Columns | None) -> StoredSplits | None:
    """The splits of a store; None where there is none, or it is not whole, and then it is deleted."""
    try:
        summary = msgspec.json.decode((folder / SUMMARY).read_bytes(), type=Summary)
        whole = all((folder / name).stat().st_size == size for name, size in summary.sizes.items())
        episodes = StoredEpisodes(folder, summary.train)
        stored = None if summary.heldout is None else StoredTasks(folder, summary.heldout)
    except (OSError, ValueError, msgspec.DecodeError):
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(OSError):
        os.utime(folder)  # when it was used last
    tasks = read_tasks(locate(str(heldout)), columns) if stored is None else stored
    return StoredSplits(
        str(path), summary.record_count, episodes, tasks, lambda: tasks, {}, summary.target_kind, summary
    )


@contextmanager
def keep_warnings() -> Iterator[list[str]]:
    """The texts of the warnings to users that come while this lasts, which are given all the same."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield told
        finally:
            told += [str(each.message) for each in caught if each.category is UserWarning]
    for each in caught:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def drop_stores(root: Path) -> None:
    """Deletes all but the `MOST_STORES` that were used last, and what killed runs left half written for a day."""
    found = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
    halves = [path for path in found if path.name.startswith(".")]
    whole = [path for path in found if path not in halves]
    newest = whole[0].stat().st_mtime if whole else 0.0
    for path in whole[MOST_STORES:] + [path for path in halves if path.stat().st_mtime < newest - 86_400]:
        shutil.rmtree(path, ignore_errors=True)
