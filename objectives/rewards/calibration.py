"""Rewards for stated confidence: correctness minus a proper loss S(q, c) of the confidence q (RLCR, arXiv 2507.16806).

R = correctness * c - weight * S(q, c). S is proper, so each answer does best by stating its true chance p. The joint
guarantee needs more: among honest reports the more likely answer must earn more. The honest value is
V(p) = correctness p - weight (p S(p, 1) + (1 - p) S(p, 0)), and V'(p) = correctness - weight (S(p, 1) - S(p, 0)), so
the guarantee holds exactly while the gap S(p, 1) - S(p, 0), times the weight, stays below correctness except at
isolated p. Each rule knows its largest gap and refuses weights that break it: a confident wrong answer might do best.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives import segments
from objectives.gates.rows import get_score
from objectives.rewards.scores import Reward
from objectives.types import Rollouts


def compute_empirical_rate(correct: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """For each row, the share of its task's scored rows that are correct; NaN in a task without a score."""
    known = ~correct.isnan()
    size = int(task.max()) + 1 if len(task) else 0
    return segments.mean(correct[known], task[known], size)[task]


@dataclass(frozen=True)
class CalibratedReward(Reward):
    """correctness * c - weight * S(q, c)."""

    correctness: float = 1.0
    """Reward of a correct answer, before the loss."""
    weight: float = 1.0
    """Weight of the proper loss."""
    correct: str = "score"
    """Name of the score that is 1 for a correct answer and 0 for a wrong one."""
    confidence: str = "confidence"
    """Name of the score that holds the stated confidence in [0, 1]."""
    noisy: bool = False
    """Score the confidence against the task's empirical rate instead of one noisy outcome (arXiv 2607.00164): the
    expected loss under that rate, which for Brier is (q - rate)^2 plus what does not depend on q."""

    def __post_init__(self) -> None:
        if not self.weight * self.gap <= self.correctness:
            raise ValueError(
                f"{type(self).__name__}.weight: got {self.weight}, expected at most correctness / largest gap = "
                f"{self.correctness:g} / {self.gap:g}: above it a confident wrong answer can earn more than an honest "
                "uncertain one. Lower weight or raise correctness."
            )

    @property
    @abstractmethod
    def gap(self) -> float:
        """Largest S(p, 1) - S(p, 0)."""

    @abstractmethod
    def compute_loss(self, mine: Tensor, other: Tensor) -> Tensor:
        """S where `mine` is the chance stated for what happened and `other` = 1 - mine."""

    def compute_value(self, p: Tensor) -> Tensor:
        """Expected reward of an honest report of p."""
        return self.correctness * p - self.weight * (
            p * self.compute_loss(p, 1 - p) + (1 - p) * self.compute_loss(1 - p, p)
        )

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        correct = get_score(rollouts, self.correct)
        stated = get_score(rollouts, self.confidence)
        outside = (stated < 0) | (stated > 1)
        if outside.any():
            raise ValueError(
                f"rollouts.scores[{self.confidence!r}]: got {stated[outside][0].item():g}, expected [0, 1] or NaN. "
                "Let the grader score such a row as ill-formed and leave its confidence absent."
            )
        target = compute_empirical_rate(correct, rollouts.task) if self.noisy else correct
        loss = target * self.compute_loss(stated, 1 - stated) + (1 - target) * self.compute_loss(1 - stated, stated)
        return self.correctness * correct - self.weight * loss


@dataclass(frozen=True)
class Brier(CalibratedReward):
    """S = (q - c)^2; gap 1 - 2p, so the weight may reach the correctness."""

    @property
    def gap(self) -> float:
        return 1.0

    def compute_loss(self, mine: Tensor, other: Tensor) -> Tensor:
        return (1 - mine).square()


@dataclass(frozen=True)
class Spherical(CalibratedReward):
    """S = -q_c / |(q, 1 - q)|; gap (1 - 2p) / |(p, 1 - p)|, so the weight may reach the correctness."""

    @property
    def gap(self) -> float:
        return 1.0

    def compute_loss(self, mine: Tensor, other: Tensor) -> Tensor:
        return -mine / torch.hypot(mine, other)


@dataclass(frozen=True)
class ClippedLog(CalibratedReward):
    """S = -log q_c with q held in [epsilon, 1 - epsilon]; gap log((1 - epsilon) / epsilon), proper inside those bounds.

    Unclipped the gap has no bound, so no weight is safe; that is why epsilon must be positive.
    """

    correctness: float = 4.6
    """Reward of a correct answer, before the loss."""
    epsilon: float = 0.01
    """Confidences are held this far from 0 and 1."""

    @property
    def gap(self) -> float:
        return math.log((1 - self.epsilon) / self.epsilon) if 0 < self.epsilon < 0.5 else math.inf

    def compute_loss(self, mine: Tensor, other: Tensor) -> Tensor:
        return -mine.clamp(self.epsilon, 1 - self.epsilon).log()
