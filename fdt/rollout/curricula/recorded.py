"""What an epoch runs over, what is computed once from all of it, and which of it comes next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from fdt.rollout.advantages import apply_credit, gather_rollouts
from fdt.rollout.place import RolloutPosition
from fdt.rollout.stored.rows import StoredEpisodes
from feedback.types import Episode, Task, collect_tasks
from objectives import Credit, Rollouts


def number_tasks(episodes: Sequence[Episode]) -> Tensor:
    """The number of each row's task ``[E]``, counted from 0 as they come."""
    if isinstance(episodes, StoredEpisodes):
        return episodes.rollouts.task
    numbers = {key: n for n, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
    return torch.tensor([numbers[e.task.key] for e in episodes], dtype=torch.long)


def count_scored_rows(episodes: Sequence[Episode]) -> Tensor:
    """How many scored rows each task has, of those that have any."""
    if isinstance(episodes, StoredEpisodes):
        rollouts = episodes.rollouts
        sizes = torch.bincount(rollouts.task[~rollouts.scores["score"].isnan()])
        return sizes[sizes > 0]
    counts = Counter(episode.task.key for episode in episodes if not math.isnan(episode.score))
    return torch.tensor(list(counts.values()), dtype=torch.long)


@dataclass
class Recorded:
    """The episodes that an epoch runs over, and what is computed once from all of them."""

    episodes: Sequence[Episode]
    credit: Credit
    orders: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)

    @cached_property
    def tasks(self) -> list[Task]:
        """The distinct prompts."""
        return collect_tasks(self.episodes)

    @cached_property
    def rollouts(self) -> Rollouts:
        """The episodes' scores as tensors, made once."""
        if isinstance(self.episodes, StoredEpisodes):
            return self.episodes.rollouts
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
