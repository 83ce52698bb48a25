"""A feedback file, split into what trains and what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdt.errors import UserError
from fdt.resources import find_sample
from feedback.readers import Reader, read, read_tasks
from feedback.readers.columns.mapping import Columns
from feedback.types import Episode, Task, collect_tasks


@dataclass(frozen=True)
class DataSplits:
    """source: name of the file or environment · record_count: how many records it had · episodes: to train on (an
    environment's tasks hold no turns) · heldout: to measure on · test: for ``fdt test``, called when needed."""

    source: str
    record_count: int
    episodes: list[Episode]
    heldout: list[Task]
    test: Callable[[], list[Task]]


def load_from_file(
    file: str,
    format: str | Reader,
    scale: Sequence[float] | None,
    heldout: float | str,
    seed: int,
    columns: Columns | None = None,
) -> DataSplits:
    """
    Args:
        file: path or name of a bundled sample.
        format: as in `feedback.readers.read`.
        heldout: a file of held-out prompts, or the share of prompts kept for measuring.
        columns: as in `feedback.readers.read`; for the held-out file too.

    Raises:
        DataError: for a bad record. UserError: where a share leaves no prompts on one side.
    """
    path = locate(file)
    episodes = read(path, format=format, scale=(scale[0], scale[1]) if scale else None, columns=columns)
    if isinstance(heldout, str):
        tasks = read_tasks(locate(heldout), columns)
        kept = episodes
    else:
        keys = {task.key for task in collect_tasks(episodes) if _hash_share(task.key, seed) < heldout}
        kept = [episode for episode in episodes if episode.task.key not in keys]
        if not kept or not keys:
            raise UserError("data.heldout", got=heldout, expected="a share that leaves prompts on both sides")
        tasks = collect_tasks([episode for episode in episodes if episode.task.key in keys])
    return DataSplits(str(path), len(episodes), kept, tasks, lambda: tasks)


def locate(name: str) -> Path:
    """A path as it is, or a bundled sample by its name."""
    path = Path(name).expanduser()
    return path if path.exists() or "/" in name else find_sample(name)


def _hash_share(key: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12
