"""From a reward model's raw numbers [n] to scores [n] in [0, 1]; what is not a number stays none.

Any function or callable class serves; these are the usual ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


def sigmoid(raw: Tensor) -> Tensor:
    """1 / (1 + exp(-raw)): under Bradley-Terry the chance of beating an answer of reward 0."""
    return raw.sigmoid()


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(-(raw - centre) / width)): under Bradley-Terry the chance of beating reward ``centre``."""

    centre: float = 0.0
    """The raw reward that becomes 0.5."""
    width: float = 1.0
    """How much raw reward one unit of log-odds is."""

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width: got {self.width}, expected a positive number")

    def __call__(self, raw: Tensor) -> Tensor:
        return ((raw - self.centre) / self.width).sigmoid()


@dataclass(frozen=True)
class MinMax:
    """(raw - low) / (high - low); what lies outside becomes 0 or 1."""

    low: float
    """The raw reward that becomes 0."""
    high: float
    """The raw reward that becomes 1."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low, high: got {self.low} and {self.high}, expected low below high")

    def __call__(self, raw: Tensor) -> Tensor:
        return ((raw - self.low) / (self.high - self.low)).clamp(0, 1)
