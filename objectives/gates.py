"""Gates: which rows and tokens a term listens to, as factors in [0, 1] on its weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from objectives.types import Rollouts


def named_score(rollouts: Rollouts, name: str) -> Float[Tensor, "B"]:
    """The score `name` of each row; raises ValueError that lists the names present."""
    if name not in rollouts.scores:
        raise ValueError(
            f"rollouts.scores: got {sorted(rollouts.scores)}, expected {name!r}. "
            "Name a score that the critics or the feedback file give, or add the critic."
        )
    return rollouts.scores[name]


class Gate(ABC):
    """Called with the rollouts of the whole optimiser step; gives a factor [N] in [0, 1]."""

    @abstractmethod
    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]: ...


@dataclass(frozen=True)
class All(Gate):
    """Every row."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return torch.ones_like(rollouts.advantages)


@dataclass(frozen=True)
class Failures(Gate):
    """Rows that failed (SRPO, arXiv 2604.02288). A row without a score is not a failure."""

    threshold: float = 0.5
    """A score below this is a failure."""
    score: str = "score"
    """Name of the score."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        failed = named_score(rollouts, self.score) < self.threshold
        return failed[rollouts.episode].to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class Successes(Gate):
    """Rows that succeeded. A row without a score is not a success."""

    threshold: float = 0.5
    """A score of at least this is a success."""
    score: str = "score"
    """Name of the score."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        passed = named_score(rollouts, self.score) >= self.threshold
        return passed[rollouts.episode].to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class PositiveAdvantage(Gate):
    """Tokens whose advantage is above zero (SDPG, arXiv 2606.04036)."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return (rollouts.advantages > 0).to(rollouts.advantages.dtype)
