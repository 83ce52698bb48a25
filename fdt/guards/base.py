"""A guard reads one number off every optimiser step and says when the run of numbers has gone wrong."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ACTIONS = ("warn", "stop", "roll_back")


@dataclass(frozen=True)
class Guard(ABC):
    """Watches one number. It acts when the number was out of bounds for ``patience`` measured steps in a row."""

    action: str = "warn"
    """warn: say so once; stop: end the run with an error, after a checkpoint; roll_back: put the weights and the
    optimiser back to the last checkpoint at which every guard was quiet, and go on."""
    patience: int = 3
    """Measured steps in a row that must be out of bounds."""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{type(self).__name__}.action: got {self.action!r}, expected one of {', '.join(ACTIONS)}")
        if self.patience < 1:
            raise ValueError(f"{type(self).__name__}.patience: got {self.patience}, expected at least 1")

    @abstractmethod
    def measure(self, outcome: Any, device: Any) -> float:
        """This step's number over all ranks (every rank calls); NaN where the step has none.

        Args:
            outcome: the step's `fdt.metrics.step.StepMetrics`: its batch, and ``values``, what was logged.
            device: where ranks meet.
        """

    @abstractmethod
    def check_bounds(self, seen: Sequence[float]) -> str | None:
        """Why the latest of the numbers seen so far (none of them NaN) is out of bounds; None where it is not."""

    def check_patience(self, seen: Sequence[float]) -> str | None:
        """Why the guard acts now: the latest ``patience`` numbers were all out of bounds."""
        last = range(len(seen), len(seen) - self.patience, -1)
        reasons = [self.check_bounds(seen[:end]) if end > 0 else None for end in last]
        return reasons[0] if all(reasons) else None

    def check_start(self, trainer: Any) -> str | None:
        """What is wrong before the first step; None unless overridden."""
        return None


@dataclass(frozen=True)
class MetricGuard(Guard):
    """Watches a logged metric."""

    metric = ""

    def measure(self, outcome: Any, device: Any) -> float:
        return outcome.values.get(self.metric, math.nan)


@dataclass(frozen=True)
class DriftGuard(MetricGuard):
    """Watches a logged metric beside its mean over the run's first steps."""

    reference_steps: int = 5
    """Measured steps at the start whose mean is the reference."""

    def compute_reference(self, seen: Sequence[float]) -> float | None:
        """The reference, once there are more steps than it takes."""
        first = seen[: self.reference_steps]
        return sum(first) / len(first) if len(seen) > self.reference_steps else None
