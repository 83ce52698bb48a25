"""Rewards: from named scores, lengths and turns to one number per row. NaN is absent and stays so."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from objectives.gates.rows import get_score
from objectives.types import Rollouts, count_turns


class Reward(ABC):
    """Called with the rollouts of the whole optimiser step; gives a reward per row, NaN where there is none."""

    @abstractmethod
    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]: ...


@dataclass(frozen=True)
class Score(Reward):
    """One named score as it is."""

    name: str = "score"
    """Name of the score."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        return get_score(rollouts, self.name)


@dataclass(frozen=True)
class Weighted(Reward):
    """Weighted sum of named scores; absent where any of them is absent."""

    weights: dict[str, float]
    """Weight of each named score."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        parts = [weight * get_score(rollouts, name) for name, weight in self.weights.items()]
        return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class FormatGate(Reward):
    """A reward that only well-formed rows can earn; the ill-formed get a constant."""

    reward: Reward = Score()
    """What a well-formed row earns."""
    valid: str = "format"
    """Name of the score that is at least 0.5 where the format is valid."""
    bonus: float = 0.0
    """Added to each well-formed row."""
    invalid: float = 0.0
    """What an ill-formed row earns, whatever else was judged."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        valid = get_score(rollouts, self.valid)
        earned = torch.where(valid >= 0.5, self.bonus + self.reward(rollouts), self.invalid)
        return earned.where(~valid.isnan(), torch.nan)


@dataclass(frozen=True)
class Overlong(Reward):
    """Adds DAPO's soft overlong penalty (arXiv 2503.14476 section 3.4).

    It is 0 up to limit - buffer, then linear, and -1 from limit on. Lengths are target tokens of the whole row.
    """

    limit: int
    """Length from which the penalty is -1 [tokens]."""
    buffer: int
    """Length over which it grows [tokens]."""
    reward: Reward = Score()
    """What it is added to."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        earned = self.reward(rollouts)
        over = (self.limit - self.buffer - rollouts.row_lengths) / self.buffer
        return earned + over.clamp(-1, 0).to(earned.dtype)


@dataclass(frozen=True)
class TurnLimit(Reward):
    """Adds DAPO's length penalty counted in turns, for agents (arXiv 2508.03501 section 3).

    0 below `threshold` turns, then (threshold - turns) / (limit - threshold): -1 at `limit`.
    """

    threshold: int
    """First number of turns that is penalised, by 0."""
    limit: int
    """Number of turns at which the penalty is -1."""
    reward: Reward = Score()
    """What it is added to."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        earned = self.reward(rollouts)
        over = (self.threshold - count_turns(rollouts)) / (self.limit - self.threshold)
        return earned + over.clamp(max=0).to(earned.dtype)
