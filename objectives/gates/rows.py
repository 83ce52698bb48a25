"""Gates: which rows and tokens a term trains on, and with what weight: factors of at least 0."""

import math
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives.types import Rollouts

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def get_score(rollouts: Rollouts, name: str) -> Float[Tensor, "B"]:
    """The score `name` of each row; raises ValueError that lists the names present."""
    if name not in rollouts.scores:
        raise ValueError(
            f"rollouts.scores: got {sorted(rollouts.scores)}, expected {name!r}. "
            "Name a score that a grader, the feedback file or the rollout source gives; a source that cannot measure a "
            "row stores nan for it."
        )
    return rollouts.scores[name]


class Gate(ABC):
    """Called with the rollouts of the whole optimiser step; gives a factor [N], at least 0."""

    @property
    def reads(self) -> frozenset[str]:
        """Which log-probs of the rollouts it asks for before the forward pass: `old_log_probs`, `engine_log_probs`."""
        return frozenset()

    @abstractmethod
    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]: ...


@dataclass(frozen=True)
class All(Gate):
    """Every row."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return torch.ones_like(rollouts.advantages)


@dataclass(frozen=True)
class ScoreGate(Gate):
    """Rows whose named score compares as asked with a number or with another named score; a row without one of them is
    left out, whatever the comparison: an absent score is neither a failure nor a success.

    Failures (SRPO, arXiv 2604.02288): the defaults. Successes: `comparison: ">="`. Rows whose rewrite was judged
    better: `{score: revision, comparison: ">", value: score}`. A weight for each row: `{score: NAME, comparison:
    weight}`.
    """

    score: str = "score"
    """Name of the score: "score" for the mean, a grader's name, or a name that the rollout source measured."""
    comparison: Literal["<", "<=", ">", ">=", "weight"] = "<"
    """How it must compare with `value`; `weight`: the score itself, at least 0, is the factor; `value` is not read."""
    value: float | str = 0.5
    """A number, or the name of another score."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        scores = get_score(rollouts, self.score)
        passed = self._weigh(scores) if self.comparison == "weight" else self._compare(scores, rollouts)
        return passed[rollouts.episode].to(rollouts.advantages.dtype)

    def _compare(self, scores: Tensor, rollouts: Rollouts) -> Tensor:
        value = get_score(rollouts, self.value) if isinstance(self.value, str) else self.value
        return COMPARISONS[self.comparison](scores, value)

    def _weigh(self, scores: Tensor) -> Tensor:
        weight = scores.nan_to_num(0.0)
        if (weight < 0).any():
            raise ValueError(
                f"rollouts.scores[{self.score!r}]: got {weight.min().item():g}, expected at least 0. "
                "Map the score to weights that are not negative."
            )
        return weight


@dataclass(frozen=True)
class PositiveAdvantage(Gate):
    """Tokens whose advantage is above zero (SDPG, arXiv 2606.04036)."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return (rollouts.advantages > 0).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class NonzeroAdvantage(Gate):
    """Tokens whose advantage is not zero: the others leave the denominator too (arXiv 2508.03501 drops them)."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return (rollouts.advantages != 0).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class SkipFirst(Gate):
    """All but the first tokens of each row, where a student likes to echo the hint (SDFT, arXiv 2601.19897)."""

    tokens: int = 3
    """Tokens skipped."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return (_index_in_row(rollouts) >= self.tokens).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class SkipLast(Gate):
    """All but the last tokens of each row, where an answer ends with what this term must not train.

    A teacher that reads the right answer is surer than its student can be. Kept from the tokens of a stated confidence,
    it trains the answer and leaves the confidence to a reward (`objectives.Brier`).
    """

    tokens: int = 7
    """Tokens skipped, the end token among them."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        sizes = torch.bincount(rollouts.episode, minlength=len(rollouts.task))
        left = sizes[rollouts.episode] - _index_in_row(rollouts)
        return (left > self.tokens).to(rollouts.advantages.dtype)


@dataclass(frozen=True)
class Every(Gate):
    """The product of several gates."""

    gates: list[Gate]
    """All must let a token pass."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset().union(*(gate.reads for gate in self.gates))

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return math.prod((gate(rollouts) for gate in self.gates), start=All()(rollouts))


@dataclass(frozen=True)
class Not(Gate):
    """1 minus another gate."""

    gate: Gate
    """The gate to invert."""

    @property
    def reads(self) -> frozenset[str]:
        return self.gate.reads

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return 1 - self.gate(rollouts)


@dataclass(frozen=True)
class InMask(Gate):
    """Tokens that lie in a further mask too, such as those that a teacher reads."""

    mask: str = "distilled"
    """Name of the mask."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        return rollouts.masks[self.mask].to(rollouts.advantages.dtype)


def _index_in_row(rollouts: Rollouts) -> Int[Tensor, "N"]:
    """Position of each token in its row, from 0."""
    row = rollouts.episode
    order = row.argsort(stable=True)
    sizes = torch.bincount(row, minlength=len(rollouts.task))
    position = torch.empty_like(row)
    position[order] = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row[order]]
    return position
