"""Curricula whose order is a rule: all together, structured data sets first, or as a transfer matrix predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fdt.errors import UserError
from fdt.rollout.curricula.base import KEY, Curriculum
from fdt.rollout.curricula.stages import Stage, StagedCurriculum
from fdt.rollout.curricula.transfer import find_best_order, read_matrix
from fdt.rollout.place import RolloutPosition
from feedback.types import Task


@dataclass
class Interleaved(Curriculum):
    """All data sets shuffled together, each epoch anew: the prompts of a run without a curriculum, in the same order,
    with the scores of each data set among the metrics."""

    column: str = "dataset"
    """Column of the prompts that names their data set."""

    def count_rollouts(self, tasks: Sequence[Task], count: int) -> int:
        return -(-len(tasks) // count)

    def choose(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> list[int]:
        order = self.draw_order(position, len(tasks))
        return order[position.rollout * count : (position.rollout + 1) * count]


@dataclass
class StructuredFirst(StagedCurriculum):
    """One stage for each data set: first those with a rule that verifies, then the open-ended ones, in the listed order
    (what Omni-Thinker, arXiv 2507.14783, found best on its tasks; `ByTransfer` asks the tasks at hand)."""

    structured: list[str] = field(default_factory=list)
    """Data sets whose answers a rule verifies."""
    open_ended: list[str] = field(default_factory=list)
    """Data sets whose answers are judged."""
    rollouts: int | None = None
    """Rollouts of each stage; null: one pass over its prompts."""
    column: str = "dataset"
    """Column of the prompts that names their data set."""

    def list_stages(self, names: Sequence[str]) -> list[Stage]:
        declared = [*self.structured, *self.open_ended]
        missing = sorted(set(names) - set(declared))
        twice = sorted({name for name in declared if declared.count(name) > 1})
        if missing or twice:
            raise UserError(
                f"{KEY}: each data set is either structured or open-ended",
                got=f"{(missing or twice)[0]} under {'neither' if missing else 'both, or twice'}",
                expected="every data set once",
            )
        return [Stage([name], self.rollouts) for name in declared]


@dataclass
class ByTransfer(StagedCurriculum):
    """One stage for each data set, in the order whose predicted final mean is best by a measured transfer matrix, as
    `fdt bench transfer` writes (after Omni-Thinker, arXiv 2507.14783; the formula is a reconstruction)."""

    matrix: str = ""
    """The file of the matrix."""
    rollouts: int | None = None
    """Rollouts of each stage; null: one pass over its prompts."""
    column: str = "dataset"
    """Column of the prompts that names their data set."""

    def __post_init__(self) -> None:
        if not self.matrix:
            raise UserError("no matrix", expected="the file that `fdt bench transfer` wrote", key=f"{KEY}.matrix")

    def list_stages(self, names: Sequence[str]) -> list[Stage]:
        order = find_best_order(read_matrix(self.matrix), names)
        return [Stage([name], self.rollouts) for name in order]
