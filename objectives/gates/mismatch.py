"""Gates for the mismatch between trainer and generating engine: w = exp(old - engine), both at the old weights.

They need `rollouts.old_log_probs` (the trainer's log-probs at generation) and `rollouts.engine_log_probs`. A masked token stays in the
denominator where the term says `keep_silenced` (as in TRL) and leaves it otherwise (as in verl).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from objectives import segments
from objectives.gates.rows import Gate
from objectives.types import Rollouts


class Mismatch(Gate):
    """A gate on w."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old_log_probs", "engine_log_probs"})


def compute_log_mismatch(rollouts: Rollouts) -> Float[Tensor, "N"]:
    """log w on the acted tokens, 0 elsewhere and on tokens that the engine did not draw (NaN); raises ValueError where
    acted tokens have no log-prob of one side."""
    acted = rollouts.masks["sampled"]
    if not acted.any():
        return torch.zeros_like(rollouts.advantages)
    for name in ("old_log_probs", "engine_log_probs"):
        values = getattr(rollouts, name)
        if values is None or values[acted].isnan().all():
            raise ValueError(
                f"rollouts.{name}: got {None if values is None else 'NaN alone'}, expected [N] log-probs. Keep the trainer's and the engine's log-probs of "
                "the rollout, or remove the mismatch gate: recorded answers were drawn by no engine."
            )
    return (rollouts.old_log_probs - rollouts.engine_log_probs).nan_to_num(0.0).where(acted, 0.0)


@dataclass(frozen=True)
class TruncatedIS(Mismatch):
    """min(w, cap): importance sampling whose weight is bounded (TIS)."""

    cap: float = 2.0
    """Greatest weight."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return compute_log_mismatch(rollouts).exp().clamp(max=self.cap).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class IcePop(Mismatch):
    """w where low <= w <= high, else 0 (arXiv 2510.18855; the bounds there are not settled)."""

    low: float = 0.5
    """Least weight kept."""
    high: float = 5.0
    """Greatest weight kept."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        weight = compute_log_mismatch(rollouts).exp().to(rollouts.advantages.dtype)
        return weight.where((weight >= self.low) & (weight <= self.high), 0.0)


@dataclass(frozen=True)
class SequenceMask(Mismatch):
    """The row's product of w on all its tokens, 0 where that product leaves the bounds."""

    low: float = 0.0
    """Least product kept."""
    high: float = 3.0
    """Greatest product kept."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        product = segments.total(compute_log_mismatch(rollouts), rollouts.episode, len(rollouts.task)).exp()
        kept = product.where((product >= self.low) & (product <= self.high), 0.0)
        return kept[rollouts.episode].to(rollouts.advantages.dtype)
