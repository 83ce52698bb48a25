"""Guards on what every step logs: length, entropy, breadth, distance to the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fdt.guards.base import Drift, Logged


@dataclass(frozen=True)
class LengthDrift(Drift):
    """Answers that grow or shrink: longer ones are often a reward gamed, vanishing ones a policy that gives up."""

    factor: float = 2.0
    """How many times the starting length is too long; its inverse is too short."""
    metric = "train/response_length"

    def broken(self, seen: Sequence[float]) -> str | None:
        base = self.base(seen)
        if not base or base / self.factor <= seen[-1] <= base * self.factor:
            return None
        return f"answers have {seen[-1]:.0f} tokens on average; the first {self.reference_steps} steps had {base:.0f}"


@dataclass(frozen=True)
class EntropyCollapse(Drift):
    """A policy that has stopped exploring: group-relative credit then has nothing to compare."""

    share: float = 0.1
    """Of the starting entropy; below it the policy has collapsed."""
    metric = "train/entropy"

    def broken(self, seen: Sequence[float]) -> str | None:
        base = self.base(seen)
        if base is None or seen[-1] >= base * self.share:
            return None
        return f"entropy is {seen[-1]:.3f} nats a token; the first {self.reference_steps} steps had {base:.3f}"


@dataclass(frozen=True)
class BreadthCollapse(Drift):
    """Answers to one task that are all the same, while they are wrong: sampling more of them finds nothing new.

    Entropy can stay up where this falls, since much of it is wording.
    """

    share: float = 0.5
    """Of the starting breadth; below it the policy has collapsed."""
    metric: str = "train/wrong_unique"
    """The logged measure: train/wrong_unique (it ignores narrowing to what is right), train/unique_share,
    train/solutions, train/distinct_2, or train/planning_entropy where planning tokens are marked."""

    def broken(self, seen: Sequence[float]) -> str | None:
        base = self.base(seen)
        if base is None or seen[-1] >= base * self.share:
            return None
        return f"{self.metric} is {seen[-1]:.3f}; the first {self.reference_steps} steps had {base:.3f}"


@dataclass(frozen=True)
class KLLimit(Logged):
    """A policy that has gone too far from where it started (`train/kl_start`; needs `model.track_start`)."""

    nats: float = 1.0
    """Mean KL to the start, nats a token of the policy's own answers."""
    metric = "train/kl_start"

    def broken(self, seen: Sequence[float]) -> str | None:
        if seen[-1] <= self.nats:
            return None
        return f"the KL to the start is {seen[-1]:.3f} nats a token, the limit {self.nats:g}"
