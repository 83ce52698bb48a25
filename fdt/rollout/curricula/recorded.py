"""What an epoch runs over, what is computed once from all of it, and which of it comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from fdt.rollout.advantages import apply_credit, gather_rollouts
from fdt.rollout.place import RolloutPosition
from feedback.types import Episode, Task, collect_tasks
from objectives import Credit, Rollouts


@dataclass
class Recorded:
    """The episodes that an epoch runs over, and what is computed once from all of them."""

    episodes: Sequence[Episode]
    credit: Credit
    orders: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)

    @cached_property
    def tasks(self) -> list[Task]:
        """The distinct prompts."""
        return collect_tasks(list(self.episodes))

    @cached_property
    def rollouts(self) -> Rollouts:
        """The episodes' scores as tensors, made once."""
        return gather_rollouts(self.episodes, all_ranks=False)[0]

    @cached_property
    def advantages(self) -> Tensor:
        """``[E]`` or ``[E, S]``: recorded answers compared with each other, over the whole file."""
        return apply_credit(self.credit, self.rollouts)

    @cached_property
    def score_names(self) -> frozenset[str]:
        """Every name that any episode was graded by."""
        return frozenset(self.rollouts.scores)

    @cached_property
    def row_tasks(self) -> list[Task]:
        """The prompt of each episode."""
        return [episode.task for episode in self.episodes]

    def choose(self, position: RolloutPosition, size: int, count: int) -> list[int]:
        """Which of ``size`` things belong to a rollout of ``count``, over all ranks."""
        key = (position.seed, position.epoch, size)
        if key not in self.orders:
            self.orders = {key: position.draw_permutation(size)}
        return self.orders[key][position.rollout * count : (position.rollout + 1) * count]
