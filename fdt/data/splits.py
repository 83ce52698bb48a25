"""A feedback file, split into what trains and what is held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fdt.errors import UserError
from fdt.resources import find_sample
from feedback.readers import Reader, read, read_tasks
from feedback.readers.columns.mapping import Columns
from feedback.readers.garbage import pause_collection
from feedback.types import Episode, Task, collect_tasks


class Target(NamedTuple):
    """What a prompt's likelihood is measured by."""

    text: str
    """An answer that is known to be good."""
    rejected: str | None = None
    """Another answer to the same prompt that is known to be worse."""

    def attach(self, task: Task) -> Task:
        """The task with `text` as the reference that it lacks, and with the worse answer."""
        return replace(task, reference=task.reference or self.text, rejected=self.rejected)


@dataclass(frozen=True)
class DataSplits:
    """source: name of the file or environment · record_count: how many records it had · episodes: to train on (an
    environment's tasks hold no turns) · heldout: to measure on · test: for ``fdt test``, called when needed ·
    targets: what a prompt's likelihood is measured by, by the task's key, `target_kind` what these texts are."""

    source: str
    record_count: int
    episodes: Sequence[Episode]
    heldout: Sequence[Task]
    test: Callable[[], Sequence[Task]]
    targets: dict[str, Target] = field(default_factory=dict)
    target_kind: str = "references"

    @property
    def has_targets(self) -> bool:
        """Whether any prompt has a text whose likelihood can be measured."""
        return bool(self.targets)

    def attach_targets(self) -> tuple[Sequence[Task], int]:
        """The held-out tasks with their targets, and how many have a reference then."""
        found = ((task, self.targets.get(task.key)) for task in self.heldout)
        tasks = [task if target is None else target.attach(task) for task, target in found]
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


def find_targets(episodes: Sequence[Episode]) -> tuple[dict[str, Target], str]:
    """One text of each prompt whose likelihood says whether a policy became better: references, else corrections, else
    the answers that were rated at or above the mean. Beside it, where there is one, a text that should become less
    likely than it: the answer that was corrected, else the worst of the answers that were rated below the mean.

    Args:
        episodes: the records of a file.

    Returns:
        The texts by the task's key, and what they are, in words; empty where the records have none of these.
    """
    references = {e.task.key: e.task.reference for e in episodes if e.task.reference}
    if references:
        return _pair_targets(references, _find_worst(episodes)), "references"
    corrected = [e for e in episodes if e.revision]
    if corrected:
        revisions = {e.task.key: e.revision or "" for e in corrected}
        return _pair_targets(revisions, {e.task.key: e.response for e in corrected if is_single(e)}), "corrections"
    rated = _sort_rated(episodes)
    if not rated or rated[0][0] == rated[-1][0]:
        return {}, "nothing"
    mean = _compute_mean(rated)
    texts = {e.task.key: e.response for score, e in rated if score >= mean and e.response}
    return _pair_targets(texts, _find_worst(episodes)), "answers rated at or above the mean"


def is_single(episode: Episode) -> bool:
    """Whether its answer is all that follows the prompt, so that another answer can stand in its place."""
    return len(episode.turns) == 1


def _pair_targets(texts: dict[str, str], worse: dict[str, str]) -> dict[str, Target]:
    found = {key: (text, worse.get(key)) for key, text in texts.items()}
    return {
        key: Target(text, other if other and other.strip() != text.strip() else None)
        for key, (text, other) in found.items()
    }


def _find_worst(episodes: Sequence[Episode]) -> dict[str, str]:
    """For each prompt the answer that was rated worst, where that is below the mean of all."""
    rated = _sort_rated(episodes)
    mean = _compute_mean(rated)
    return {e.task.key: e.response for score, e in reversed(rated) if score < mean and is_single(e)}


def _sort_rated(episodes: Sequence[Episode]) -> list[tuple[float, Episode]]:
    """Episodes that have a score, with it, the worst first."""
    rated = ((e.score, e) for e in episodes)
    return sorted(((score, e) for score, e in rated if not math.isnan(score)), key=lambda pair: pair[0])


def _compute_mean(rated: Sequence[tuple[float, Episode]]) -> float:
    return sum(score for score, _ in rated) / len(rated) if rated else math.nan


def locate(name: str) -> Path:
    """A path as it is, or a bundled sample by its name."""
    path = Path(name).expanduser()
    return path if path.exists() or "/" in name else find_sample(name)


def _hash_share(key: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12
