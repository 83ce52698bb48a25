"""A folder of shards, read as plain data.

torch keeps the list of what such a folder holds as a pickle, and what is no tensor in further ones; its own reader runs
them. Here the list is written once more in the form that ``weights_only`` takes, and all of it is read so.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, load, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from fdt.errors import UserError
from fdt.policy.loading.versions import build_read_error
from fdt.policy.optimizers import SignalAdamW

CONTENTS = "contents.pt"
"""The list of what a folder holds."""
OTHER = "meta.pt"
"""Where Lightning keeps what belongs neither to the model nor to an optimiser."""
KINDS: list[Any] = [
    metadata.Metadata,
    metadata.MetadataIndex,
    metadata.BytesStorageMetadata,
    metadata.ChunkStorageMetadata,
    metadata.TensorProperties,
    metadata.TensorStorageMetadata,
    metadata._MEM_FORMAT_ENCODING,
    _StorageInfo,
    torch.Size,
]
"""Classes of the list: records of names, sizes and places."""


def write_contents(folder: Path) -> None:
    """Lists what this process has just written into a folder."""
    found = FileSystemReader(folder).read_metadata()
    found.storage_meta = None  # the folder's name, which changes
    torch.save(found, folder / CONTENTS)


def read_plain(path: Path, mmap: bool = False) -> Any:
    """A file of a folder of shards, or a checkpoint in one file; `mmap` leaves its tensors on the disk until they are
    read.

    Raises:
        UserError: where it is not there, damaged, or more than plain data.
    """
    try:
        with torch.serialization.safe_globals(KINDS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as fault:  # torch raises half a dozen kinds, by where the file is damaged
        raise build_read_error(path, fault) from fault


class PlainReader(FileSystemReader):
    """Takes the list from `CONTENTS`."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> metadata.Metadata:
        """What the folder holds."""
        found: metadata.Metadata = read_plain(Path(self.path) / CONTENTS)
        found.storage_meta = metadata.StorageMeta(load_id=self.load_id)
        return found


class PlainPlanner(DefaultLoadPlanner):
    """Takes numbers and texts as plain data, as torch takes tensors."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Puts one of them into the state that is loaded into."""
        safe = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), safe)
        safe.seek(0)
        super().load_bytes(read_item, safe)


def fill(state: dict[str, Any], folder: Path) -> None:
    """Replaces what a nested state holds by what the folder holds under the same names. Every rank must call.

    Raises:
        UserError: where a name is not there, or more than plain data.
    """
    reader = PlainReader(folder)
    reader.read_metadata()  # raises before torch wraps it
    try:
        load(state, storage_reader=reader, planner=PlainPlanner(), no_dist=not dist.is_initialized())
    except CheckpointException as faults:  # no Exception of Python's
        fault = next(iter(faults.failures.values()))[0]
        raise build_read_error(folder, fault) from faults


def read_whole(folder: Path) -> dict[str, Any]:
    """A folder as the file that one process would have written: its weights whole, on the CPU, without moments.

    Raises:
        UserError: where it was not written by a run of fdt, is damaged, or holds more than plain data.
    """
    listed = PlainReader(folder).read_metadata().state_dict_metadata
    weights = {
        name.removeprefix("state_dict."): torch.empty(item.size, dtype=item.properties.dtype)
        for name, item in listed.items()
        if name.startswith("state_dict.") and isinstance(item, metadata.TensorStorageMetadata)
    }
    fill({"state_dict": weights}, folder)
    return {**read_plain(folder / OTHER), "state_dict": weights}


def list_moments(names: Iterable[str], optimizers: int) -> list[set[str]]:
    """What a folder's list says each optimiser holds of any parameter: exp_avg, or policy/exp_avg."""
    found: list[set[str]] = [set() for _ in range(optimizers)]
    for name in names:
        head, _, rest = name.partition(".state.")
        if rest and head.startswith("optimizer_"):
            found[int(head.removeprefix("optimizer_"))].add(rest.rsplit(".", 1)[-1])
    return found


def read_moments(path: Path) -> list[set[str]]:
    """The same of a checkpoint in one file.

    Raises:
        UserError: where it cannot be read.
    """
    states = read_plain(path, mmap=True).get("optimizer_states", [])
    return [set().union(*one["state"].values()) for one in states]


def add_saved_terms(optimizers: Sequence[torch.optim.Optimizer], moments: Sequence[set[str]]) -> None:
    """Gives optimisers that keep moments for each term the terms that a checkpoint has moments of: torch fills what is
    there, and would make that of no term by a step of its own."""
    for optimizer, names in zip(optimizers, moments, strict=False):
        if isinstance(optimizer, SignalAdamW):
            optimizer.add_terms(sorted({name.rpartition("/")[0] for name in names if "/" in name}))


def load_shards(folder: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Puts a folder's weights and moments into a model and its optimisers. Every rank must call.

    What the folder does not hold (frozen weights, a teacher that is made anew) stays as it is.

    Raises:
        UserError: where the folder lacks a weight that is trained, or cannot be read.
    """
    held = {name.removeprefix("state_dict.") for name in PlainReader(folder).read_metadata().state_dict_metadata}
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and name not in held]
    if lacking:
        raise UserError(
            "the shards lack weights that are trained", path=folder, got=lacking[0], key="ckpt_path",
            expected="a checkpoint of the same base and adapters",
        )  # fmt: skip
    weights = {name: value for name, value in get_model_state_dict(model).items() if name in held}
    fill({"state_dict": weights}, folder)
    model.load_state_dict(weights, strict=False)
    add_saved_terms(optimizers, list_moments(held, len(optimizers)))
    for number, optimizer in enumerate(optimizers):
        state = {f"optimizer_{number}": get_optimizer_state_dict(model, optimizer)}
        fill(state, folder)
        options = StateDictOptions(cpu_offload=True)
        set_optimizer_state_dict(model, optimizer, optim_state_dict=state[f"optimizer_{number}"], options=options)
