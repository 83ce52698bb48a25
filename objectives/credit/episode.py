"""Credit: from scores [B] and tasks [B] to advantages [B].

A missing score (NaN) stays outside every mean and standard deviation and has advantage 0. Rows that all score the
same have advantage exactly 0, whatever the rounding of their mean.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives import segments
from objectives.returns import check_numbers
from objectives.rewards.scores import Reward, Score
from objectives.types import Rollouts


def standardise(
    values: Float[Tensor, "n"], index: Int[Tensor, "n"], scale: str, ddof: int, eps: float
) -> Float[Tensor, "n"]:
    """Centre `values` on the mean of their segment and, where `scale` is `std`, divide by its deviation plus eps.

    NaN values are outside and give 0; so do segments of one value or of equal values.
    """
    out = torch.zeros_like(values)
    known = ~values.isnan()
    size = int(index.max()) + 1 if len(index) else 0
    held = values[known].double()
    where = index[known]
    centred = held - segments.mean(held, where, size)[where]
    if scale == "std":
        centred = centred / (segments.std(held, where, size, ddof)[where] + eps)
    equal = segments.has_no_spread(held, where, size)[where]
    out[known] = centred.where(~equal, 0.0).to(values.dtype)
    return out


@dataclass(frozen=True)
class Credit(ABC):
    """Called with all rows of the optimiser step; a subclass says how scores compare."""

    reward: Reward = field(default=Score(), kw_only=True)
    """What is compared: one number per row."""

    @abstractmethod
    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Scores (NaN is absent) and task of each row -> advantage of each row."""

    def compute_rows(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        """Advantage of each row; reads only what is indexed by row or turn, so the rollouts may hold a whole file."""
        reward = self.reward(rollouts)
        return self(check_numbers(reward, rollouts.task.shape, self.reward, "rewards", allow_nan=True), rollouts.task)

    def compute_turns(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        """Advantage of each token: its row's, unless the credit differs between turns or tokens."""
        return self.compute_rows(rollouts)[rollouts.episode]

    def check(self, task: Int[Tensor, "B"]) -> None:
        """Raise ValueError where these tasks cannot give this credit any signal."""


@dataclass(frozen=True)
class GroupBaseline(Credit):
    """Credits that compare rows of one task with each other."""

    def check(self, task: Int[Tensor, "B"]) -> None:
        """Raise ValueError when no task has two rows: every advantage would be 0."""
        if len(task) and len(task.unique()) == len(task):
            raise ValueError(
                f"credit: got {len(task)} rows of {len(task)} tasks, one each; {type(self).__name__} expected at "
                "least one task with two rows, else every advantage is 0. Use objectives.DatasetMean for logged "
                "responses, or sample more responses per task."
            )


@dataclass(frozen=True)
class GroupRelative(GroupBaseline):
    """A = (r - group mean) / (group std + eps) (GRPO, arXiv 2402.03300), or only centred (Dr.GRPO, 2503.20783)."""

    scale: Literal["std", "none"] = "std"
    """Divide by the group's standard deviation, or only centre."""
    ddof: int = 0
    """0: population deviation; 1: sample deviation, as verl and TRL compute it."""
    eps: float = 1e-6
    """Added to the deviation."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return standardise(scores, task, self.scale, self.ddof, self.eps)


@dataclass(frozen=True)
class LeaveOneOut(GroupBaseline):
    """A = r - mean of the others in the group = G/(G-1) (r - mean) (RLOO, arXiv 2402.14740)."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        centred = standardise(scores, task, "none", 0, 0.0)
        known = (~scores.isnan()).to(scores.dtype)
        members = segments.total(known, task, int(task.max()) + 1 if len(task) else 0)[task]
        return centred * members / (members - 1).clamp(min=1)


@dataclass(frozen=True)
class DatasetMean(Credit):
    """A = r - mean of every row given, divided by their deviation where asked (REINFORCE++, arXiv 2501.03262).

    The baseline needs no second response to the same prompt, so it serves files of logged responses.
    """

    scale: Literal["std", "none"] = "none"
    """Divide by the deviation of all rows (whitening), or only centre."""
    ddof: int = 0
    """0: population deviation; 1: sample deviation."""
    eps: float = 1e-6
    """Added to the deviation."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return standardise(scores, torch.zeros_like(task), self.scale, self.ddof, self.eps)


@dataclass(frozen=True)
class RawScore(Credit):
    """A = (r - center) / scale, without any baseline (binary feedback of OpenClaw-RL, arXiv 2603.10165)."""

    center: float = 0.5
    """Score whose advantage is 0."""
    scale: float = 0.5
    """Distance from it whose advantage is 1."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return ((scores - self.center) / self.scale).nan_to_num(0.0)


@dataclass(frozen=True)
class GroupWhitened(GroupBaseline):
    """Centred on the group, then divided by the deviation of all centred rows (REINFORCE++ with baseline; ProRL v2).

    The second mean is 0 by construction; the variance is at least 1e-8.
    """

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        centred = standardise(scores, task, "none", 0, 0.0)
        known = ~scores.isnan()
        spread = centred[known].double().square().mean().clamp(min=1e-8).sqrt()
        return (centred / spread).to(scores.dtype) if known.any() else centred


@dataclass(frozen=True)
class MeanScaled(GroupBaseline):
    """A = (r - mean) / mean: rare successes weigh more than under the deviation (MaxRL, arXiv 2602.02710).

    Rewards must not be negative, else ValueError; a group without any success has advantage 0.
    """

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        known = ~scores.isnan()
        if (scores[known] < 0).any():
            raise ValueError(
                f"MeanScaled: got reward {scores[known].min().item():g}, expected none below 0. "
                "Dividing by a mean near or below 0 flips signs; use objectives.GroupRelative."
            )
        size = int(task.max()) + 1 if len(task) else 0
        mean = segments.mean(scores[known], task[known], size)[task]
        return standardise(scores, task, "none", 0, 0.0) / mean.where(mean > 0, 1.0)


@dataclass(frozen=True)
class PerReward(GroupBaseline):
    """Each named score is standardised in its group, then summed, then whitened over all rows (GDPO, arXiv 2601.05242).

    Summing first would let the score with the widest spread dominate. A score that a row lacks adds nothing; a
    row that lacks all has advantage 0 and stays outside the whitening.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"score": 1.0})
    """Weight of each named score."""
    ddof: int = 0
    """0: population deviation; 1: sample deviation."""
    eps: float = 1e-6
    """Added to each deviation."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return standardise(scores, task, "std", self.ddof, self.eps)

    def compute_rows(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        parts = {name: Score(name)(rollouts) for name in self.weights}
        known = torch.stack([~values.isnan() for values in parts.values()]).any(0)
        weighted = [weight * self(parts[name], rollouts.task) for name, weight in self.weights.items()]
        summed = torch.stack(weighted).sum(0)
        whole = torch.zeros_like(rollouts.task)
        return standardise(summed.where(known, torch.nan), whole, "std", self.ddof, self.eps)


@dataclass(frozen=True)
class GroupElseBatch(Credit):
    """A group whose scores differ is compared with itself (GRPO, arXiv 2402.03300), a flat one with the batch
    (REINFORCE++, arXiv 2501.03262): where all answers to a prompt fail, each still has a negative advantage."""

    ddof: int = 0
    """0: population deviation; 1: sample deviation."""
    eps: float = 1e-6
    """Added to each deviation."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        own = standardise(scores, task, "std", self.ddof, self.eps)
        batch = standardise(scores, torch.zeros_like(task), "std", self.ddof, self.eps)
        size = int(task.max()) + 1 if len(task) else 0
        flat = segments.total(own.abs(), task, size)[task] == 0
        return torch.where(flat, batch, own)
