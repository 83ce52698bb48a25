"""Held-out records, made while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lightning import Trainer

from fdt.evaluation.base import Record
from feedback.types import Task


@dataclass
class EvaluationLoader:
    """W ranks take every W-th task each, and make equally many batches.

    Args:
        trainer: which rank this is.
        tasks: what is measured, on all ranks.
        size: tasks measured together.
        measure: makes the records of some tasks; None for a task that cannot be measured.
    """

    trainer: Trainer
    tasks: Sequence[Task]
    size: int
    measure: Callable[[list[Task]], Sequence[Record | None]]

    def __len__(self) -> int:
        share = -(-len(self.tasks) // self.trainer.world_size)
        return -(-share // self.size)

    def __iter__(self) -> Iterator[list[Record]]:
        mine = range(self.trainer.global_rank, len(self.tasks), self.trainer.world_size)
        for start in range(0, len(self) * self.size, self.size):
            part = mine[start : start + self.size]
            records = self.measure([self.tasks[n] for n in part])
            yield [{"order": n, **record} for n, record in zip(part, records, strict=True) if record is not None]
