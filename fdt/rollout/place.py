"""The position of a rollout in a run, from which all its randomness is derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

REWRITES = -1  # the attempt from which `RolloutPosition.derive_seed` makes the seed of drafts


@dataclass(frozen=True)
class RolloutPosition:
    """Which rollout of which epoch, on which rank; all randomness is derived from it, so a resumed run repeats it."""

    epoch: int
    rollout: int
    rank: int = 0
    world_size: int = 1
    seed: int = 0

    def derive_seed(self, attempt: int = 0) -> int:
        """A seed of its own for each attempt at sampling on each rank."""
        return _mix_seed(self.seed, self.epoch, self.rollout, self.rank, attempt)

    def get_number(self, size: int) -> int:
        """Rollouts of the run before this one, where an epoch has ``size`` of them."""
        return self.epoch * size + self.rollout

    @property
    def shared_seed(self) -> int:
        """A number of this rollout's own, the same on every rank."""
        return _mix_seed(self.seed, self.epoch, self.rollout)

    def draw_permutation(self, size: int) -> list[int]:
        """The epoch's permutation, the same on every rank."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(size, generator=generator).tolist()

    def draw_replacements(self, size: int, chosen: Sequence[int]) -> list[int]:
        """All but the chosen, in an order of this rollout's own, the same on every rank."""
        generator = torch.Generator().manual_seed(self.shared_seed)
        return [n for n in torch.randperm(size, generator=generator).tolist() if n not in set(chosen)]


def _mix_seed(*parts: int) -> int:
    value = 0
    for part in parts:
        value = (value * 1_000_003 + part + 1) % (2**31 - 1)
    return value
