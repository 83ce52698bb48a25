"""What each arm took: steps, answers, tokens, time, and how fast; what its judges took."""

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


@dataclass(frozen=True)
class JudgeCost:
    """One line of the table of judges: what calls through the gateway took, in training and measuring together."""

    name: str
    replies: float
    """Paid for in this run."""
    kept: float
    """Found in the cache, from this run or an earlier one."""
    failed: float
    """Without a reply in the end."""
    prompt_tokens: float
    """Read by judges, of the replies that were paid for."""
    completion_tokens: float
    """Written by them."""
    cost: float
    """In the unit of the two prices; NaN where no prices are set."""


def build_judge_cost(run: Run) -> JudgeCost | None:
    """What one arm's judges took; None where it asked none. A step that a resumed run repeated was paid for once: the
    second time its replies were kept, so all lines of the log count."""
    names = [name for name in JudgeCost.__dataclass_fields__ if name != "name"]
    sums = {name: _sum_column(run, name) for name in names}
    asked = [sums[name] for name in ("replies", "kept", "failed")]
    return JudgeCost(run.name, **sums) if any(value > 0 for value in asked) else None


def _sum_column(run: Run, name: str) -> float:
    columns = [run.metrics.get(f"{part}/judge/{name}", np.empty(0)) for part in ("train", "val")]
    known = np.concatenate([column[np.isfinite(column)] for column in columns])
    return float(known.sum()) if len(known) else nan
