"""A feedback file, split into what trains and what is held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fdt.errors import UserError
from fdt.resources import find_sample
from feedback.readers import Reader, read, read_tasks
from feedback.readers.columns.mapping import Columns
from feedback.readers.garbage import pause_collection
from feedback.types import Episode, Task, collect_tasks


@dataclass(frozen=True)
class DataSplits:
    """source: name of the file or environment · record_count: how many records it had · episodes: to train on (an
    environment's tasks hold no turns) · heldout: to measure on · test: for ``fdt test``, called when needed ·
    targets: by a task's key a text whose likelihood can be measured, `target_kind` what these texts are."""

    source: str
    record_count: int
    episodes: Sequence[Episode]
    heldout: Sequence[Task]
    test: Callable[[], Sequence[Task]]
    targets: dict[str, str] = field(default_factory=dict)
    target_kind: str = "references"

    @property
    def has_targets(self) -> bool:
        """Whether any prompt has a text whose likelihood can be measured."""
        return bool(self.targets)

    def attach_targets(self) -> tuple[Sequence[Task], int]:
        """The held-out tasks with these texts as the references that they lack, and how many have one then."""
        tasks = [replace(task, reference=task.reference or self.targets.get(task.key)) for task in self.heldout]
        return tasks, sum(task.reference is not None for task in tasks)


@pause_collection()
def load_from_file(
    file: str,
    format: str | Reader,
    scale: Sequence[float] | None,
    heldout: float | str | None,
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
        DataError: for a bad record. UserError: where a share leaves no prompts on one side, or there is none.
    """
    if heldout is None:
        raise UserError(
            "nothing to measure on",
            got="null",
            expected="a share of the prompts such as 0.1, or a file of held-out prompts",
            key="data.heldout",
        )
    path = locate(file)
    episodes = read(path, format=format, scale=(scale[0], scale[1]) if scale else None, columns=columns)
    if isinstance(heldout, str):
        tasks = read_tasks(locate(heldout), columns)
        return DataSplits(str(path), len(episodes), episodes, tasks, lambda: tasks)
    targets, kind = find_targets(episodes)
    keys = select_heldout([task.key for task in collect_tasks(episodes)], heldout, seed, targets)
    kept = [episode for episode in episodes if episode.task.key not in keys]
    if not kept or not keys:
        raise UserError(
            "data.heldout",
            got=heldout,
            expected="a share that leaves prompts on both sides, or a file of held-out prompts",
            path=path,
        )
    tasks = collect_tasks([episode for episode in episodes if episode.task.key in keys])
    return DataSplits(str(path), len(episodes), kept, tasks, lambda: tasks, targets, kind)


def select_heldout(keys: Sequence[str], share: float, seed: int, preferred: Collection[str] = ()) -> set[str]:
    """The prompts that are kept for measuring: about this share of them, by a hash, so that more rows in the file move
    none from one side to the other; of a few prompts one, whatever the share, a preferred one where there is any."""
    places = {key: _hash_share(key, seed) for key in keys}
    chosen = {key for key, place in places.items() if place < share}
    if chosen or share <= 0 or len(places) < 2:
        return chosen
    return {min(places, key=lambda key: (key not in preferred, places[key]))}


def find_targets(episodes: Sequence[Episode]) -> tuple[dict[str, str], str]:
    """One text of each prompt whose likelihood says whether a policy became better: references, else corrections, else
    the answers that were rated at or above the mean.

    Args:
        episodes: the records of a file.

    Returns:
        The texts by the task's key, and what they are, in words; empty where the records have none of these.
    """
    references = {e.task.key: e.task.reference for e in episodes if e.task.reference}
    if references:
        return references, "references"
    revisions = {e.task.key: e.revision for e in episodes if e.revision}
    if revisions:
        return revisions, "corrections"
    scored = [(score, e) for e in episodes if not math.isnan(score := e.score)]
    scores = [score for score, _ in scored]
    if not scores or min(scores) == max(scores):
        return {}, "nothing"
    mean = sum(scores) / len(scores)
    rated = sorted(((score, e) for score, e in scored if score >= mean), key=lambda pair: pair[0])
    return {e.task.key: e.response for _, e in rated if e.response}, "answers rated at or above the mean"


def locate(name: str) -> Path:
    """A path as it is, or a bundled sample by its name."""
    path = Path(name).expanduser()
    return path if path.exists() or "/" in name else find_sample(name)


def _hash_share(key: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12
