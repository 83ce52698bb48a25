"""What each arm took: steps, answers, tokens, time, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan

import numpy as np

from fdt.report import measures
from fdt.report.runs import Run


@dataclass(frozen=True)
class Cost:
    """One line of the table; NaN where a run did not log it."""

    name: str
    steps: float
    rollouts: float
    """Training episodes, each once a step."""
    minutes: float
    """In training steps, generation included, evaluation not."""
    step_s: float
    """Median seconds of a step."""
    slowest_s: float
    """The slowest step, in seconds."""
    tokens: float
    """Tokens that the student read, in millions."""
    tokens_per_s: float
    """Over the whole run."""

    @property
    def has_values(self) -> bool:
        """Whether anything was logged."""
        return any(isfinite(value) for value in (self.steps, self.minutes, self.tokens))


def build_cost(run: Run) -> Cost:
    """The cost of one arm from its metrics; of a step that a resumed run repeated, the later one."""
    steps, rollouts, minutes = measures.compute_cost(run)
    _, seconds = run.get_series("train/time/step")
    pace, spent = (run.metrics.get(column, np.empty(0)) for column in ("train/time/tokens_per_s", "train/time/step"))
    both = np.isfinite(pace) & np.isfinite(spent) if len(pace) == len(spent) else np.zeros(0, bool)
    tokens = float((pace[both] * spent[both]).sum()) if both.any() else nan
    time = float(spent[both].sum()) if both.any() else 0.0
    known = len(seconds) > 0
    return Cost(
        run.name,
        steps,
        rollouts,
        minutes,
        float(np.median(seconds)) if known else nan,
        float(seconds.max()) if known else nan,
        tokens / 1e6,
        tokens / time if time > 0 else nan,
    )
