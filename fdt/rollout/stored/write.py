"""Writes the rows of a file that was read and checked, for `fdt.rollout.stored.rows` to read."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import torch

from fdt.data.chat.conversations import Kinds, find_kinds
from fdt.data.splits import DataSplits
from fdt.rollout.advantages import gather_rollouts
from feedback.readers.garbage import pause_collection
from feedback.types import Episode

SUMMARY = "summary.json"


class Summary(msgspec.Struct):
    """What a start needs to know of a file beside its rows."""

    record_count: int
    warnings: list[str]
    """What was told when the file was read, to be told again."""
    train: Kinds
    heldout: Kinds | None
    """None where a file of its own is held out."""
    has_targets: bool
    target_kind: str
    num_references: int
    """Held-out prompts that have a reference or a target."""
    sizes: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes of each file."""


class BlobWriter:
    """Writes what `fdt.rollout.stored.rows.Blobs` reads."""

    def __init__(self, folder: Path, name: str) -> None:
        self._stem = folder / name
        self._file = (folder / f"{name}.rows").open("wb")
        self._encode = msgspec.msgpack.Encoder().encode
        self._ends = array("q")
        self._sums = array("L")
        self._end = 0

    def add(self, value: Any) -> int:
        """Writes one more value; returns its number."""
        packed = self._encode(value)
        self._file.write(packed)
        self._end += len(packed)
        self._ends.append(self._end)
        self._sums.append(zlib.crc32(packed))
        return len(self._ends) - 1

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: Any, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            np.save(f"{self._stem}.ends.npy", np.array(self._ends, np.int64))
            np.save(f"{self._stem}.sums.npy", np.array(self._sums, np.uint32))


@pause_collection()
def write_store(folder: Path, splits: DataSplits, heldout_too: bool, warnings: Sequence[str]) -> None:
    """
    Args:
        folder: where they shall lie; it appears when all of it is on the disk.
        splits: the rows.
        heldout_too: whether the held-out prompts are rows of the same file.
        warnings: what was told when they were read.

    Raises:
        OSError: where they cannot be written. ValueError, TypeError or OverflowError: where one has a value that the
            format does not hold.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        write_episodes(part, splits.episodes)
        rollouts = gather_rollouts(splits.episodes, all_ranks=False)[0]
        torch.save({item.name: getattr(rollouts, item.name) for item in fields(rollouts)}, part / "scores.pt")
        known = write_tasks(part, splits) if heldout_too else 0
        kinds = (find_kinds(splits.episodes), find_kinds(splits.heldout) if heldout_too else None)
        summary = Summary(splits.record_count, list(warnings), *kinds, splits.has_targets, splits.target_kind, known)
        finish_store(part, summary)
        if not folder.exists():  # else another process was first
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # what has its name is not there any more


def write_episodes(folder: Path, episodes: Sequence[Episode]) -> None:
    """The episodes, each with the number of its group's hints, or -1; the rows of a group share the tuple of them."""
    groups = array("i")
    numbers: dict[int, int] = {}
    with BlobWriter(folder, "train") as rows, BlobWriter(folder, "hints") as hints:
        for episode in episodes:
            own = episode.task.hints
            if not own:
                groups.append(-1)
                rows.add(episode)
                continue
            if id(own) not in numbers:
                numbers[id(own)] = hints.add(own)
            groups.append(numbers[id(own)])
            bare = msgspec.structs.replace(episode.task, hints=())
            rows.add(msgspec.structs.replace(episode, task=bare))
    np.save(folder / "groups.npy", np.array(groups, np.int32))


def write_tasks(folder: Path, splits: DataSplits) -> int:
    """The held-out prompts, each with its target or None; returns how many have a reference or a target."""
    known = 0
    with BlobWriter(folder, "heldout") as rows:
        for task in splits.heldout:
            target = splits.targets.get(task.key)
            known += (task.reference or target) is not None
            rows.add((task, target))
    return known


def finish_store(folder: Path, summary: Summary) -> None:
    """Writes the summary last, and waits until everything is on the disk."""
    summary.sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / SUMMARY).write_bytes(msgspec.json.encode(summary))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
