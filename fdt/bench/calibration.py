"""What `fdt bench calibration` runs: a world where nothing is certain, and answers that state their confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fdt.bench import base
from fdt.bench.base import Bench

ARMS = ("plain", "brier", "brier_and_critiques", "split", "critiques", "mix")
WORLD = {"users": 4, "wavering": 0.8}
"""As in the config: users' chances to want another convention than theirs are 0.2, 0.4, 0.6 and 0.8."""
SETTING = "wavering"
RATE = 5e-4


@dataclass(frozen=True)
class ConfidenceJob(base.Job):
    """A run whose answers state their confidence; a seed decides who wavers, and all draws."""

    config = "task/confidence"
    is_right_path = "fdt.bench.signals.is_right"

    def build_environment_args(self) -> dict[str, Any]:
        return {**WORLD, "wavering_seed": self.seed}


class Calibration(Bench):
    """Does a Brier reward mend stated confidence, at what price, and what does a sure teacher do?

    Four users waver between conventions, each with a chance of their own, so that no answer is certain: whoever knows
    every user's habit is right in half of the answers, and should state 0.8 to the steadiest user and 0.2 to the least
    steady. The policy (tiny-confidence) starts with half of that knowledge and is too sure of it.
    """

    name = "calibration"
    job = ConfidenceJob
    arms = ARMS
    settings = {SETTING: WORLD}
    grid = (RATE,)
    rates = {SETTING: dict.fromkeys(ARMS, RATE)}
    seeds = (2, 5)
