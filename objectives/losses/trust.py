"""Masks that compare the current policy with the one that acted. They are known only after the forward pass, so the
tokens they silence stay in the denominator."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from objectives import segments


@dataclass(frozen=True)
class Moved:
    """How far the policy has moved on n acted tokens."""

    log_ratio: Float[Tensor, "n"]
    """log pi - log old."""
    old: Float[Tensor, "n"]
    advantages: Float[Tensor, "n"]
    row: Int[Tensor, "n"]


class Trust(ABC):
    """Says which of the acted tokens still teach."""

    @abstractmethod
    def __call__(self, moved: Moved) -> Bool[Tensor, "n"]: ...


@dataclass(frozen=True)
class OffPolicySequences(Trust):
    """Drops blamed tokens of rows that the policy has moved away from: A < 0 and mean(old - log pi) > limit.

    OPSM (DeepSeek-V3.2, arXiv 2512.02556), which leaves the limit open.
    """

    limit: float = 0.5
    """Greatest mean drop in log-prob of a row [nats]."""

    def __call__(self, moved: Moved) -> Bool[Tensor, "n"]:
        drop = -segments.mean(moved.log_ratio, moved.row, int(moved.row.max()) + 1)[moved.row]
        return ~((moved.advantages < 0) & (drop > self.limit))


@dataclass(frozen=True)
class ProbabilityShift(Trust):
    """Drops tokens whose probability already moved by more than `limit` the way A pushes (DPPO, arXiv 2602.04879)."""

    limit: float = 0.2
    """Greatest change of probability."""

    def __call__(self, moved: Moved) -> Bool[Tensor, "n"]:
        shift = (moved.old + moved.log_ratio).exp() - moved.old.exp()
        return ~(((shift > self.limit) & (moved.advantages > 0)) | ((shift < -self.limit) & (moved.advantages < 0)))
