"""The calibration panel: the confidences that held-out answers state, beside how often they are right."""

from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from fdt.report.measures import get_number
from fdt.report.runs import Record, Run
from fdt.statistics import calibration
from fdt.statistics.calibration import Brier, auroc, bootstrap_measure, brier, debiased_ece, ece
from fdt.statistics.intervals import Interval, compute_mean_interval

RIGHT_FROM = 0.5
"""A score between 0 and 1 counts as right from here on."""


@dataclass(frozen=True)
class Calibration:
    """The stated confidences of one set of answers, before or after training."""

    label: str
    arm: str
    is_base: bool
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    answers: int  # scored answers, with or without a stated confidence
    between: int  # scores that are neither 0 nor 1
    accuracy: float = field(init=False)
    error: float = field(init=False)
    debiased: Interval = field(init=False)
    brier: Interval = field(init=False)
    parts: Brier = field(init=False)
    auroc: Interval = field(init=False)
    alarm: str | None = field(init=False)

    def __post_init__(self) -> None:
        q = self.confidence
        c = self.correct
        numbers = {
            "accuracy": float(c.mean()),
            "error": ece(q, c),
            "debiased": bootstrap_measure(debiased_ece, q, c),
            "brier": compute_mean_interval((q - c) ** 2),
            "parts": brier(q, c),
            "auroc": bootstrap_measure(auroc, q, c),
            "alarm": calibration.detect_collapse(q),
        }
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    @property
    def stated_share(self) -> float:
        """Share of the scored answers that state a confidence, in [0, 1]."""
        return len(self.confidence) / self.answers


def get_confidence(record: Record) -> float:
    """The stated confidence of a held-out answer, in [0, 1]; NaN where it stated none."""
    scores = record.get("scores")
    value = get_number(scores if isinstance(scores, dict) else {}, "confidence")
    value = value if isfinite(value) else get_number(record, "confidence")
    return value if 0 <= value <= 1 else float("nan")


def compute_calibrations(runs: list[Run]) -> list[Calibration]:
    """Before and after of every arm whose answers state confidences; a base that arms share stands once."""
    found: list[Calibration] = []
    for run in runs:
        for name in ("base", "last"):
            is_base = name == "base"
            label = f"base of {run.name}" if is_base and len(runs) > 1 else "base" if is_base else run.name
            one = _compute_calibration(label, run.name, is_base, run.evals.get(name, []))
            if one is not None and not any(_is_same(one, other) for other in found):
                found.append(one)
    return found


def _compute_calibration(label: str, arm: str, is_base: bool, records: list[Record]) -> Calibration | None:
    scored = [(get_number(record, "score"), get_confidence(record)) for record in records]
    scored = [(score, stated) for score, stated in scored if isfinite(score)]
    kept = [(score, stated) for score, stated in scored if isfinite(stated)]
    if not kept:
        return None
    correct = np.array([float(score >= RIGHT_FROM) for score, _ in kept])
    between = sum(score not in (0, 1) for score, _ in kept)
    return Calibration(label, arm, is_base, np.array([stated for _, stated in kept]), correct, len(scored), between)


def _is_same(one: Calibration, other: Calibration) -> bool:
    return (
        one.is_base
        and other.is_base
        and one.answers == other.answers
        and np.array_equal(one.confidence, other.confidence)
        and np.array_equal(one.correct, other.correct)
    )
