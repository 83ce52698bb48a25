"""Guards on what every step logs: length, entropy, diversity, distance to the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fdt.guards.base import DriftGuard, MetricGuard


@dataclass(frozen=True)
class LengthDrift(DriftGuard):
    """Answers that grow or shrink: longer ones are often a reward gamed, vanishing ones a policy that gives up."""

    factor: float = 2.0
    """How many times the starting length is too long; its inverse is too short."""
    metric = "train/completions/mean_length"

    def check_bounds(self, values: Sequence[float]) -> str | None:
        base = self.compute_reference(values)
        if not base or base / self.factor <= values[-1] <= base * self.factor:
            return None
        return f"answers have {values[-1]:.0f} tokens on average; the first {self.reference_steps} steps had {base:.0f}"


@dataclass(frozen=True)
class EntropyCollapse(DriftGuard):
    """A policy that has stopped exploring: group-relative advantages then has nothing to compare."""

    share: float = 0.1
    """Of the starting entropy; below it the policy has collapsed."""
    metric = "train/entropy"

    def check_bounds(self, values: Sequence[float]) -> str | None:
        base = self.compute_reference(values)
        if base is None or values[-1] >= base * self.share:
            return None
        return f"entropy is {values[-1]:.3f} nats a token; the first {self.reference_steps} steps had {base:.3f}"


@dataclass(frozen=True)
class DiversityCollapse(DriftGuard):
    """Answers to one task that are all the same, while they are wrong: sampling more of them finds nothing new.

    Entropy can stay up where this falls, since much of it is wording.
    """

    share: float = 0.5
    """Of the starting value; below it the policy has collapsed."""
    metric: str = "train/diversity/wrong_unique"
    """The logged measure: train/diversity/wrong_unique (which ignores narrowing to what is right), unique_share,
    solutions or distinct_2 of train/diversity, or train/planning_entropy where `data.marker` finds planning tokens."""

    def check_bounds(self, values: Sequence[float]) -> str | None:
        base = self.compute_reference(values)
        if base is None or values[-1] >= base * self.share:
            return None
        return f"{self.metric} is {values[-1]:.3f}; the first {self.reference_steps} steps had {base:.3f}"


@dataclass(frozen=True)
class KLLimit(MetricGuard):
    """A policy that has gone too far from where it started (`train/kl_init`; needs `model.log_kl_to_init`)."""

    nats: float = 1.0
    """Mean KL to the start, nats a token of the policy's own answers."""
    metric = "train/kl_init"

    def check_bounds(self, values: Sequence[float]) -> str | None:
        if values[-1] <= self.nats:
            return None
        return f"the KL to the start is {values[-1]:.3f} nats a token, the limit {self.nats:g}"
