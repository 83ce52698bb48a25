"""Gates for the mismatch between trainer and generating engine: w = exp(old - engine), both at the old weights.

They need `rollouts.old` (the trainer's log-probs at generation) and `rollouts.engine`. A masked token stays in the
denominator where the term says `keep_silenced` (as in TRL) and leaves it otherwise (as in verl).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from objectives import segments
from objectives.gates import Gate
from objectives.types import Rollouts


def log_mismatch(rollouts: Rollouts) -> Float[Tensor, "N"]:
    """log w on the acted tokens, 0 elsewhere; raises ValueError where either side is missing."""
    if rollouts.old is None or rollouts.engine is None:
        missing = "old" if rollouts.old is None else "engine"
        raise ValueError(
            f"rollouts.{missing}: got None, expected [N] log-probs. Keep the trainer's and the engine's log-probs of "
            "the rollout, or remove the mismatch gate: an engine that shares the trainer's weights has no mismatch."
        )
    return (rollouts.old - rollouts.engine).where(rollouts.marks["acted"], 0.0)


@dataclass(frozen=True)
class TruncatedIS(Gate):
    """min(w, cap): importance sampling whose weight is bounded (TIS)."""

    cap: float = 2.0
    """Greatest weight."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return log_mismatch(rollouts).exp().clamp(max=self.cap).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class IcePop(Gate):
    """w where low <= w <= high, else 0 (arXiv 2510.18855; the bounds there are not settled)."""

    low: float = 0.5
    """Least weight kept."""
    high: float = 5.0
    """Greatest weight kept."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        weight = log_mismatch(rollouts).exp().to(rollouts.advantages.dtype)
        return weight.where((weight >= self.low) & (weight <= self.high), 0.0)


@dataclass(frozen=True)
class SequenceMask(Gate):
    """The row's product of w on all its tokens, 0 where that product leaves the bounds."""

    low: float = 0.0
    """Least product kept."""
    high: float = 3.0
    """Greatest product kept."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        product = segments.total(log_mismatch(rollouts), rollouts.episode, len(rollouts.task)).exp()
        kept = product.where((product >= self.low) & (product <= self.high), 0.0)
        return kept[rollouts.episode].to(rollouts.advantages.dtype)
