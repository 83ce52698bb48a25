"""Rows that lie on the disk and are decoded when they are asked for."""

from __future__ import annotations

import mmap
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import msgspec
import numpy as np
import torch

from fdt.data.chat.conversations import Kinds
from fdt.data.splits import Target
from feedback.faults import DataError
from feedback.types import Episode, Task
from objectives import Rollouts

Item = TypeVar("Item")
HELD_HINTS = 1024
"""Groups of which the hints are held decoded."""


class Blobs(Generic[Item]):
    """Numbered values of one type: NAME.rows holds their bytes one after another, NAME.ends.npy where each ends,
    NAME.sums.npy the CRC-32 of each."""

    def __init__(self, folder: Path, name: str, kind: Any) -> None:
        self.path = folder / f"{name}.rows"
        self._ends = np.load(folder / f"{name}.ends.npy", mmap_mode="r")
        self._sums = np.load(folder / f"{name}.sums.npy", mmap_mode="r")
        self._decoder = msgspec.msgpack.Decoder(kind)
        with self.path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(self) else b""

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, number: int) -> Item:
        """
        Raises:
            DataError: where the bytes are not those that were written.
        """
        start = int(self._ends[number - 1]) if number else 0
        packed = self._bytes[start : int(self._ends[number])]
        if zlib.crc32(packed) != int(self._sums[number]):
            expected = "the bytes that were written"
            remedy = f"Delete {self.path.parent}; the feedback file is then read again."
            raise DataError(str(self.path), None, "stored row", f"row {number + 1} damaged", expected, remedy)
        found: Item = self._decoder.decode(packed)
        return found


class StoredRows(Sequence[Item]):
    """A sequence whose items are read when they are asked for."""

    kinds: Kinds
    """The kinds of conversation among them."""

    @abstractmethod
    def read(self, number: int) -> Item:
        """The item of that number, from 0."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.read(number) for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(index)
        return self.read(number)


class StoredEpisodes(StoredRows[Episode]):
    """The episodes that train. The hints of a group are stored once for all of its rows."""

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        self.kinds = kinds
        self.folder = folder
        self._rows: Blobs[Episode] = Blobs(folder, "train", Episode)
        self._groups = np.load(folder / "groups.npy", mmap_mode="r")
        self._read_hints = lru_cache(HELD_HINTS)(Blobs[tuple[str, ...]](folder, "hints", tuple[str, ...]).read)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, number: int) -> Episode:
        episode = self._rows.read(number)
        group = int(self._groups[number])
        if group < 0:
            return episode
        task = msgspec.structs.replace(episode.task, hints=self._read_hints(group))
        return msgspec.structs.replace(episode, task=task)

    @cached_property
    def rollouts(self) -> Rollouts:
        """Their scores as tensors, as `fdt.rollout.advantages.gather_rollouts` makes them."""
        return Rollouts(**torch.load(self.folder / "scores.pt", mmap=True, weights_only=True))


class StoredTasks(StoredRows[Task]):
    """The prompts that are held out."""

    def __init__(self, folder: Path, kinds: Kinds, with_targets: bool = False) -> None:
        """
        Args:
            folder: where they lie.
            kinds: of conversation among them.
            with_targets: whether a prompt has the text whose likelihood is measured as its reference, and a worse one.
        """
        self.kinds = kinds
        self.folder = folder
        self._rows: Blobs[tuple[Task, Target | None]] = Blobs(folder, "heldout", tuple[Task, Target | None])
        self.with_targets = with_targets

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, number: int) -> Task:
        task, target = self._rows.read(number)
        return task if target is None or not self.with_targets else target.attach(task)

    def attach_targets(self) -> StoredTasks:
        """The same prompts, with their targets."""
        return StoredTasks(self.folder, self.kinds, with_targets=True)
