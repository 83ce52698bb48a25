"""A feedback file, split into what trains and what is held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fdt.data.dialogue import as_message
from fdt.errors import UserError
from fdt.resources import find_sample
from feedback.readers import Reader, read, read_tasks
from feedback.readers.columns.mapping import Columns
from feedback.readers.garbage import pause_collection
from feedback.types import Episode, Task, Turn, collect_tasks


class Target(NamedTuple):
    """What a prompt's likelihood is measured by."""

    text: str
    """An answer that is known to be good."""
    rejected: str | None = None
    """Another answer in the same place that is known to be worse."""
    context: tuple[Turn, ...] = ()
    """What was said between the prompt and these answers."""

    def attach(self, task: Task) -> Task:
        """The task with `text` as the reference that it lacks, with the worse answer, and with what was said before
        them as part of its prompt."""
        messages = (*task.messages, *map(as_message, self.context))
        return replace(task, messages=messages, reference=task.reference or self.text, rejected=self.rejected)


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
    targets |= add_rejected({key: targets[key] for key in keys if key in targets}, episodes)
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
    the answers that were rated at or above the mean. A correction has the answer that it corrects beside it.

    Args:
        episodes: the records of a file.

    Returns:
        The texts by the task's key, and what they are, in words; empty where the records have none of these.
    """
    references = {e.task.key: Target(e.task.reference) for e in episodes if e.task.reference}
    if references:
        return references, "references"
    corrections = {e.task.key: target for e in episodes if (target := _build_correction(e)) is not None}
    if corrections:
        return corrections, "corrections"
    scored = _list_scored(episodes)
    if len({score for score, _ in scored}) < 2:
        return {}, "nothing"
    mean = _compute_mean(scored)
    rated = sorted(((score, e) for score, e in scored if score >= mean), key=lambda pair: pair[0])
    targets = {e.task.key: Target(e.response, None, _get_context(e)) for _, e in rated if e.response}
    return targets, "answers rated at or above the mean"


def add_rejected(targets: dict[str, Target], episodes: Sequence[Episode]) -> dict[str, Target]:
    """The same targets; those without a worse answer get the one in their place that was rated worst, where that is
    below the mean.

    Args:
        targets: by the task's key.
        episodes: the records of a file, of other tasks too.
    """
    wanted = {key: target for key, target in targets.items() if target.rejected is None}
    if not wanted:
        return targets
    scored = _list_scored(episodes)
    mean = _compute_mean(scored)
    bad = sorted(((s, e) for s, e in scored if s < mean and e.task.key in wanted), key=lambda pair: -pair[0])
    worst = {(e.task.key, repr(_get_context(e))): e.response for _, e in bad}
    return targets | {
        key: target._replace(rejected=_tell_apart(worst.get((key, repr(target.context))), target.text))
        for key, target in wanted.items()
    }


def _build_correction(episode: Episode) -> Target | None:
    """The first correction of an episode and the answer that it corrects, in that answer's place."""
    given, places = episode.correction, episode.policy_places
    if given is None or not given.revision:
        return None
    if not places:
        return Target(given.revision)
    place = places[-1 if given.turn is None else given.turn]
    answer = episode.turns[place].text
    return Target(given.revision, _tell_apart(answer, given.revision), episode.turns[:place])


def _tell_apart(answer: str | None, good: str) -> str | None:
    """The answer, where it is another than the good one."""
    return answer if answer and answer.strip() != good.strip() else None


def _get_context(episode: Episode) -> tuple[Turn, ...]:
    """What was said between the prompt and the last answer."""
    return episode.turns[: episode.policy_places[-1]] if episode.policy_places else episode.turns


def _list_scored(episodes: Sequence[Episode]) -> list[tuple[float, Episode]]:
    """Episodes that have a score, with it."""
    return [(score, e) for e in episodes if not math.isnan(score := e.score)]


def _compute_mean(scored: Sequence[tuple[float, Episode]]) -> float:
    return sum(score for score, _ in scored) / len(scored) if scored else math.nan


def locate(name: str) -> Path:
    """A path as it is, or a bundled sample by its name."""
    path = Path(name).expanduser()
    return path if path.exists() or "/" in name else find_sample(name)


def _hash_share(key: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12
