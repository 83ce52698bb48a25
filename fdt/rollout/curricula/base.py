"""`Curriculum`: which prompts come next, and what of a run's answers it goes by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fdt.distributed import gather_objects
from fdt.errors import UserError
from fdt.rollout.place import RolloutPosition
from feedback.types import Episode, Task

KEY = "data.source.curriculum"


@dataclass(frozen=True)
class SamplingSettings:
    """How the prompts of a rollout are answered, where a curriculum says so."""

    num_generations: int | None = None
    """Answers to each prompt; None: as the source has it."""
    max_new_tokens: int | None = None
    """Most tokens of one answer, or of one turn of it; None: as the engine has it."""


class Curriculum(ABC):
    """Chooses the prompts (replay: the rows) of each rollout. All ranks choose alike, without talking to each other:
    from the rollout's place in the run, and from what `observe` gathered."""

    column: str = "dataset"
    """The column of a prompt that names its data set: what others call a task, of which one prompt is an instance."""
    reads_scores: bool = False
    """Whether the choice goes by answers so far; then rollouts cannot be made ahead, and recorded rows have none."""

    _order: tuple[tuple[int, int, int], list[int]] | None = None

    def draw_order(self, position: RolloutPosition, size: int) -> list[int]:
        """`RolloutPosition.draw_permutation`, kept until another is asked for."""
        key = (position.seed, position.epoch, size)
        order = self._order  # of its own, since rollouts that are made ahead are chosen in another thread
        if order is None or order[0] != key:
            order = (key, position.draw_permutation(size))
            self._order = order
        return order[1]

    def check(self, tasks: Sequence[Task]) -> None:
        """
        Args:
            tasks: of each prompt or row that may come.

        Raises:
            UserError: where they cannot be put into this order.
        """

    @abstractmethod
    def count_rollouts(self, tasks: Sequence[Task], count: int) -> int:
        """Rollouts of ``count`` prompts that make an epoch."""

    @abstractmethod
    def choose(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> list[int]:
        """Numbers of the rollout's prompts over all ranks: at most ``count``, at least one, none twice."""

    def list_open(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> Collection[int]:
        """Numbers of the prompts that may stand in for those chosen, as `DynamicSampling` asks for; all unless
        overridden."""
        return range(len(tasks))

    def get_sampling(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> SamplingSettings:
        """How the rollout's prompts are answered; as source and engine have it unless overridden."""
        return SamplingSettings()

    def list_sampling(self) -> list[SamplingSettings]:
        """All that `get_sampling` may give, for checks before the first step."""
        return [SamplingSettings()]

    def describe(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> dict[str, float]:
        """Metrics of the rollout that follow from its place alone."""
        return {}

    def observe(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Takes note of this rank's fresh, graded answers; every rank must call.

        Returns:
            Metrics over the answers of all ranks: of each data set the mean score, where prompts name theirs.
        """
        own: dict[str, list[float]] = {}
        for episode in episodes:
            name = get_dataset(episode.task, self.column)
            if name is not None and not math.isnan(episode.score):
                own.setdefault(name, []).append(episode.score)
        parts = gather_objects(own)
        found = {}
        for name in sorted({name for part in parts for name in part}):
            scores = [score for part in parts for score in part.get(name, [])]
            found[f"curriculum/score/{name}"] = math.fsum(scores) / len(scores)
        return found

    def pack(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values; nothing where all follows from the rollout's place."""
        return {}

    def unpack(self, packed: dict[str, Any]) -> None:
        """Takes what a checkpoint held."""


def describe_curriculum(
    curriculum: Curriculum,
    position: RolloutPosition,
    tasks: Sequence[Task],
    count: int,
    answers: Sequence[Episode] | None = None,
) -> dict[str, float]:
    """Metrics of a rollout, to be summed over ranks: its place in the curriculum, and what that observed of this rank's
    fresh answers, where there are any."""
    found = curriculum.describe(position, tasks, count)
    if answers is not None:
        found |= curriculum.observe(answers)
    # Each is of all ranks already.
    return {name: value if position.rank == 0 else 0.0 for name, value in found.items()}


def get_dataset(task: Task, column: str) -> str | None:
    """The data set that a prompt says it is of; None where it says nothing."""
    name = task.meta.get(column)
    return None if name is None else str(name)


def group_by_dataset(tasks: Iterable[Task], column: str) -> dict[str, list[int]]:
    """For each data set, by name, the numbers of its prompts.

    Raises:
        UserError: for the first prompt that names none.
    """
    found: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        name = get_dataset(task, column)
        if name is None:
            raise UserError(
                "a prompt without the column that names its data set",
                got=f"{task.key} with {', '.join(sorted(task.meta)) or 'no further column'}",
                expected=f"a column {column!r} in every row",
                key=f"{KEY}.column",
                remedy="add it, or name the column that is there",
            )
        found.setdefault(name, []).append(number)
    return dict(sorted(found.items()))
