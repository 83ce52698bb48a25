"""Masks that compare the current policy with the one that acted. They are known only after the forward pass, so the
tokens they silence stay in the denominator."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from objectives import segments


class Trust(ABC):
    """log ratio = log pi - old [n], old [n], advantages [n] and row [n] of acted tokens -> which tokens still teach."""

    @abstractmethod
    def __call__(
        self,
        log_ratio: Float[Tensor, "n"],
        old: Float[Tensor, "n"],
        advantages: Float[Tensor, "n"],
        row: Int[Tensor, "n"],
    ) -> Bool[Tensor, "n"]: ...


@dataclass(frozen=True)
class OffPolicySequences(Trust):
    """Drops blamed tokens of rows that the policy has moved away from: A < 0 and mean(old - log pi) > limit.

    OPSM (DeepSeek-V3.2, arXiv 2512.02556), which leaves the limit open.
    """

    limit: float = 0.5
    """Greatest mean drop in log-prob of a row [nats]."""

    def __call__(
        self,
        log_ratio: Float[Tensor, "n"],
        old: Float[Tensor, "n"],
        advantages: Float[Tensor, "n"],
        row: Int[Tensor, "n"],
    ) -> Bool[Tensor, "n"]:
        drop = -segments.mean(log_ratio, row, int(row.max()) + 1)[row]
        return ~((advantages < 0) & (drop > self.limit))


@dataclass(frozen=True)
class ProbabilityShift(Trust):
    """Drops tokens whose probability already moved by more than `limit` the way A pushes (DPPO, arXiv 2602.04879)."""

    limit: float = 0.2
    """Greatest change of probability."""

    def __call__(
        self,
        log_ratio: Float[Tensor, "n"],
        old: Float[Tensor, "n"],
        advantages: Float[Tensor, "n"],
        row: Int[Tensor, "n"],
    ) -> Bool[Tensor, "n"]:
        shift = (old + log_ratio).exp() - old.exp()
        return ~(((shift > self.limit) & (advantages > 0)) | ((shift < -self.limit) & (advantages < 0)))
