"""Stages: some data sets for so many rollouts, then others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from lightning.pytorch.utilities import rank_zero_info

from fdt.errors import UserError, suggest_nearest
from fdt.rollout.curricula.base import KEY, Curriculum, SamplingSettings, group_by_dataset
from fdt.rollout.place import RolloutPosition
from feedback.types import Task

STAGE_STRIDE = 100_003
"""Keeps the permutations of one stage's passes apart from those of the next."""


@dataclass(frozen=True)
class Stage:
    """Some data sets, shuffled together, for a while."""

    datasets: list[str]
    """Their names."""
    rollouts: int | None = None
    """Rollouts that the stage lasts; null: one pass over its prompts."""
    num_generations: int | None = None
    """Answers to each prompt while the stage lasts; null: as `data.source` has it."""
    max_new_tokens: int | None = None
    """Most tokens of one answer while the stage lasts; null: as `data.engine` has it."""

    def __post_init__(self) -> None:
        for name in ("num_generations", "max_new_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError("a stage", got=value, expected="at least 1, or null", key=f"{KEY}.stages.{name}")
        if not self.datasets or (self.rollouts is not None and self.rollouts < 1):
            got = f"{len(self.datasets)} data sets for {self.rollouts} rollouts"
            raise UserError("a stage", got=got, expected="at least one, for at least one rollout", key=f"{KEY}.stages")

    @property
    def sampling(self) -> SamplingSettings:
        """How its prompts are answered."""
        return SamplingSettings(self.num_generations, self.max_new_tokens)


@dataclass(frozen=True)
class Part:
    """A stage over the prompts at hand: their numbers, and rollouts of one pass and of the whole stage."""

    datasets: tuple[str, ...]
    numbers: list[int]
    per_pass: int
    rollouts: int
    sampling: SamplingSettings


class StagedCurriculum(Curriculum):
    """A curriculum that is a list of stages. An epoch is all of them; afterwards the last one goes on."""

    _parts: tuple[Sequence[Task], int, list[Part]] | None = None

    @abstractmethod
    def list_stages(self, names: Sequence[str]) -> list[Stage]:
        """The stages, for the data sets of these names."""

    def check(self, tasks: Sequence[Task]) -> None:
        """
        Raises:
            UserError: where a prompt names no data set, or a stage names one that is not there.
        """
        found = group_by_dataset(tasks, self.column)
        stages = self.list_stages(list(found))
        for name in (name for stage in stages for name in stage.datasets):
            if name not in found:
                raise UserError(
                    f"a stage names a data set of which there is no prompt in the column {self.column!r}",
                    got=name,
                    expected=f"one of {', '.join(found)}",
                    key=KEY,
                    remedy=suggest_nearest(name, found, "Correct the name, or the column."),
                )
        told = " -> ".join(" + ".join(stage.datasets) for stage in stages)
        left = sorted(set(found) - {name for stage in stages for name in stage.datasets})
        rank_zero_info(f"{KEY}: {told}" + (f"; never drawn: {', '.join(left)}" if left else ""))

    def count_rollouts(self, tasks: Sequence[Task], count: int) -> int:
        return sum(part.rollouts for part in self._list_parts(tasks, count))

    def choose(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> list[int]:
        stage, rollout, part = self._locate(position, tasks, count)
        passes, place = divmod(rollout, part.per_pass)
        order = self.draw_order(replace(position, epoch=stage * STAGE_STRIDE + passes), len(part.numbers))
        return [part.numbers[n] for n in order[place * count : (place + 1) * count]]

    def list_open(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> Collection[int]:
        return set(self._locate(position, tasks, count)[2].numbers)

    def get_sampling(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> SamplingSettings:
        return self._locate(position, tasks, count)[2].sampling

    def describe(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> dict[str, float]:
        stage, rollout, part = self._locate(position, tasks, count)
        if not rollout and not position.rank:
            stages = len(self._list_parts(tasks, count))
            names = " + ".join(part.datasets)
            rank_zero_info(f"{KEY}: stage {stage + 1} of {stages}, {part.rollouts} rollouts of {names}")
        return {"curriculum/stage": stage + 1.0}

    def _locate(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> tuple[int, int, Part]:
        """The stage of a rollout, its number within it, and the stage's prompts."""
        parts = self._list_parts(tasks, count)
        number = position.get_number(sum(part.rollouts for part in parts))
        stage = 0
        while stage < len(parts) - 1 and number >= parts[stage].rollouts:
            number -= parts[stage].rollouts
            stage += 1
        return stage, number, parts[stage]

    def _list_parts(self, tasks: Sequence[Task], count: int) -> list[Part]:
        """The stages over these prompts, worked out once."""
        known = self._parts
        if known is None or known[0] is not tasks or known[1] != count:
            found = group_by_dataset(tasks, self.column)
            parts = []
            for stage in self.list_stages(list(found)):
                numbers = sorted(number for name in stage.datasets for number in found[name])
                per_pass = -(-len(numbers) // count)
                rollouts = stage.rollouts or per_pass
                parts.append(Part(tuple(stage.datasets), numbers, per_pass, rollouts, stage.sampling))
            known = (tasks, count, parts)
            self._parts = known
        return known[2]


@dataclass
class Stages(StagedCurriculum):
    """The stages as they are listed. A data set that no stage names is never drawn; a later stage may name earlier ones
    again, with more answers to a prompt or longer ones (ProRL, arXiv 2505.24864)."""

    stages: list[Stage] = field(default_factory=list)
    """One after the other; the last goes on for as long as the run does."""
    column: str = "dataset"
    """Column of the prompts that names their data set."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("no stage", expected="at least one", key=f"{KEY}.stages")

    def list_stages(self, names: Sequence[str]) -> list[Stage]:
        return self.stages

    def list_sampling(self) -> list[SamplingSettings]:
        return [stage.sampling for stage in self.stages]
