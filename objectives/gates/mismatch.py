"""Gates for the mismatch between trainer and generating engine: w = exp(old - engine), both at the old weights.

They need `rollouts.old_log_probs` (the trainer's log-probs at generation) and `rollouts.engine_log_probs`. A masked
token stays in the denominator where the term has `keep_masked` (as in TRL) and leaves it otherwise (as in verl).
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
    """log w on the sampled tokens, 0 elsewhere and on tokens that the engine did not sample (NaN); raises ValueError
    where no sampled token has a log-prob of one side."""
    sampled = rollouts.masks["sampled"]
    if not sampled.any():
        return torch.zeros_like(rollouts.advantages)
    old = _check_log_probs("old_log_probs", rollouts.old_log_probs, sampled)
    engine = _check_log_probs("engine_log_probs", rollouts.engine_log_probs, sampled)
    return (old - engine).nan_to_num(0.0).where(sampled, 0.0)


def _check_log_probs(name: str, values: Tensor | None, sampled: Tensor) -> Tensor:
    if values is None or values[sampled].isnan().all():
        raise ValueError(
            f"rollouts.{name}: got {None if values is None else 'NaN alone'}, expected [N] log-probs. Keep the "
            "trainer's and the engine's log-probs of the rollout, or remove the mismatch gate: recorded answers were "
            "sampled by no engine."
        )
    return values


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
