"""Reductions: how a term's tokens add up to one number, as weights and a denominator of the whole optimiser step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from objectives import segments
from objectives.types import Rollouts


class Reduction(ABC):
    """Called with the rollouts of the whole optimiser step and the mask of the tokens that a term trains on."""

    @abstractmethod
    def __call__(self, mask: Bool[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, "N"]:
        """Weight of each token; those outside `mask` are ignored."""

    def compute_denominator(self, weights: Float[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, ""]:
        """This rank's share of the denominator; in float64, so that the whole is the same on any number of ranks."""
        return weights.sum(dtype=torch.float64)


@dataclass(frozen=True)
class TokenMean(Reduction):
    """Every token of the step weighs the same (DAPO, arXiv 2503.14476)."""

    def __call__(self, mask: Bool[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, "N"]:
        return torch.ones_like(rollouts.advantages)


@dataclass(frozen=True)
class SequenceMean(Reduction):
    """Every row weighs the same: a token weighs one over its row's trained tokens (GRPO, arXiv 2402.03300)."""

    def __call__(self, mask: Bool[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, "N"]:
        members = segments.count(rollouts.episode[mask], len(rollouts.task)).clamp(min=1)
        return (1.0 / members).to(rollouts.advantages.dtype)[rollouts.episode]


@dataclass(frozen=True)
class TurnMean(Reduction):
    """Every turn weighs the same, so episodes of many turns weigh more (MS-GRPO, arXiv 2508.10839, per chosen turn)."""

    def __call__(self, mask: Bool[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, "N"]:
        size = int(rollouts.turn.max()) + 1 if len(rollouts.turn) else 0
        members = segments.count(rollouts.turn[mask], size).clamp(min=1)
        return (1.0 / members).to(rollouts.advantages.dtype)[rollouts.turn]


@dataclass(frozen=True)
class ConstantLength(Reduction):
    """Sum over tokens, divided by rows times a constant, so long rows are not discounted (Dr.GRPO, arXiv 2503.20783).

    Rows count when they have at least one trained token.
    """

    length: int
    """The constant, usually the longest response allowed [tokens]."""

    def __call__(self, mask: Bool[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, "N"]:
        return torch.ones_like(rollouts.advantages)

    def compute_denominator(self, weights: Float[Tensor, "N"], rollouts: Rollouts) -> Float[Tensor, ""]:
        return weights.new_tensor(len(rollouts.episode[weights != 0].unique()) * self.length)
