"""The optimiser steps of one epoch, made one rollout at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lightning import Trainer

from fdt.data.batch import Batch
from fdt.rollout.place import RolloutPosition


@dataclass
class RolloutLoader:
    """An iterable of known length: Lightning then never fetches one ahead.

    Args:
        trainer: where the run stands.
        steps: optimiser steps of an epoch.
        size: optimiser steps of a rollout.
        seed: of the run.
        make: the batches of a rollout.
    """

    trainer: Trainer
    steps: int
    size: int
    seed: int
    make: Callable[[RolloutPosition], list[Batch]]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        trainer = self.trainer
        # Computed, not stored: where this epoch stands is the number of batches that the loop has done.
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        for rollout in range(done // self.size, len(self) // self.size):
            place = (trainer.current_epoch, rollout, trainer.global_rank, trainer.world_size, self.seed)
            batches = self.make(RolloutPosition(*place))
            yield from batches[done % self.size :] if rollout == done // self.size else batches
