"""What changes over training: coefficients of terms, and when something is due."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


class Schedule(ABC):
    """Called with the optimiser steps done so far; gives a coefficient."""

    @abstractmethod
    def __call__(self, update: int) -> float: ...

    @property
    @abstractmethod
    def peak(self) -> float:
        """Greatest value over a run; 0 means that the term is never computed."""


@dataclass(frozen=True)
class Ramp(Schedule):
    """Linear from 0 to `value`, then constant, then linear to 0 (SDPG, arXiv 2606.04036)."""

    value: float
    """Coefficient at the top."""
    warmup: int = 0
    """Steps of the rise."""
    hold: int | None = None
    """Steps at the top; null: for ever."""
    decay: int = 0
    """Steps of the fall after `hold`."""

    @property
    def peak(self) -> float:
        return self.value

    def __call__(self, update: int) -> float:
        rise = min(1.0, (update + 1) / (self.warmup + 1))
        past = 0 if self.hold is None else max(0, update + 1 - self.warmup - self.hold)
        return self.value * rise * max(0.0, 1 - past / (self.decay + 1))


@dataclass(frozen=True)
class Plateau:
    """Validation has stopped improving: when ProRL replaces the reference by the policy (arXiv 2505.24864)."""

    patience: int = 3
    """Validations without improvement before it is due."""
    cooldown: int = 3
    """Validations afterwards in which it is not due again."""
    min_delta: float = 0.0
    """An improvement is more than this."""

    def is_due(self, history: Sequence[float], last: int | None = None) -> bool:
        """Whether it is due after `history` (higher is better); `last` is the length that it had the last time."""
        since = 0 if last is None else last
        if last is not None and len(history) - last <= self.cooldown:
            return False
        if len(history) - since <= self.patience:
            return False
        before = history[since : -self.patience]
        recent = history[-self.patience :]
        return max(recent) <= max(before) + self.min_delta
