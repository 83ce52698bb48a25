"""A guard measures one number of every optimiser step and finds when the numbers have gone wrong."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ACTIONS = ("warn", "stop", "roll_back")


class Metrics(Protocol):
    """What a guard reads of a step; `fdt.metrics.step.StepMetrics` is one."""

    @property
    def batch(self) -> Any:
        """The step's `fdt.data.batch.Batch` on this rank."""

    @property
    def values(self) -> dict[str, float]:
        """What was logged, by name, over all ranks."""


@dataclass(frozen=True)
class Guard(ABC):
    """Watches one number. It acts when the number was out of bounds for ``patience`` measured steps in a row."""

    action: str = "warn"
    """warn: once; stop: end the run with an error, after a checkpoint; roll_back: put the weights and the
    optimiser back to the last checkpoint at which every guard was within its bounds, and go on."""
    patience: int = 3
    """Measured steps in a row that must be out of bounds."""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{type(self).__name__}.action: got {self.action!r}, expected one of {', '.join(ACTIONS)}")
        if self.patience < 1:
            raise ValueError(f"{type(self).__name__}.patience: got {self.patience}, expected at least 1")

    @abstractmethod
    def measure(self, metrics: Metrics, device: Any) -> float:
        """This step's number over all ranks (every rank calls); NaN where the step has none.

        Args:
            metrics: the step's batch, and ``values``, what was logged.
            device: where ranks meet.
        """

    @abstractmethod
    def check_bounds(self, values: Sequence[float]) -> str | None:
        """Why the latest of the numbers measured so far (none of them NaN) is out of bounds; None where it is not."""

    def check_patience(self, values: Sequence[float]) -> str | None:
        """Why the guard acts now: the latest ``patience`` numbers were all out of bounds."""
        last = range(len(values), len(values) - self.patience, -1)
        reasons = [self.check_bounds(values[:end]) if end > 0 else None for end in last]
        return reasons[0] if all(reasons) else None

    def check_start(self, trainer: Any) -> str | None:
        """What is wrong before the first step; None unless overridden."""
        return None


@dataclass(frozen=True)
class MetricGuard(Guard):
    """Watches a logged metric."""

    metric = ""
    """Its name, such as train/entropy."""

    def measure(self, metrics: Metrics, device: Any) -> float:
        return metrics.values.get(self.metric, math.nan)


@dataclass(frozen=True)
class DriftGuard(MetricGuard):
    """Watches a logged metric beside its mean over the run's first steps."""

    reference_steps: int = 5
    """Measured steps at the start whose mean is the reference."""

    def compute_reference(self, values: Sequence[float]) -> float | None:
        """The reference, once there are more steps than it takes."""
        first = values[: self.reference_steps]
        return sum(first) / len(first) if len(values) > self.reference_steps else None
