"""Set scores for diversity: one row offers m answers, each judged by k rewards (VPO, arXiv 2605.22817)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from objectives.rewards.scores import Reward
from objectives.types import Rollouts


def score_set(values: Float[Tensor, "*b m k"], weights: Float[Tensor, "K k"]) -> Float[Tensor, "*b"]:
    """Mean over trade-offs w of the best answer's w . r: covering many trade-offs pays, repeating an answer does not.

    Order of answers does not matter; rows of zeros pad a set to m answers.
    """
    return (values @ weights.T).amax(-2).mean(-1)


def measure_collinearity(values: Float[Tensor, "n k"]) -> float:
    """Mean Pearson correlation over pairs of rewards; near 1 the vector ranks answers as one of its parts does.

    Constant rewards correlate with nothing (0). Raises ValueError with fewer than two rewards.
    """
    k = values.shape[1]
    if k < 2:
        raise ValueError(f"collinearity: got {k} reward, expected at least 2. One reward has no pair to compare.")
    centred = values - values.mean(0)
    unit = centred / centred.norm(dim=0).clamp(min=torch.finfo(values.dtype).tiny)
    return float(((unit.T @ unit).sum() - (unit * unit).sum()) / (k * (k - 1)))


@dataclass(frozen=True)
class SetScore(Reward):
    """`set_score` of `rollouts.set_scores`, with trade-offs from a flat Dirichlet that a task's rows share."""

    draws: int = 100
    """Trade-offs drawn per task."""
    seed: int = 0
    """Seed of the draws; they also differ by optimiser step and task."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        values = rollouts.set_scores
        if values is None:
            raise ValueError("rollouts.set_scores: got None, expected [B, m, k]. Add a grader that judges sets.")
        out = torch.empty_like(values[:, 0, 0])
        for task in rollouts.task.unique().tolist():
            rows = rollouts.task == task
            out[rows] = score_set(values[rows], self.draw_trade_offs(task, rollouts.update, values))
        return out

    def draw_trade_offs(self, task: int, update: int, like: Float[Tensor, "B m k"]) -> Float[Tensor, "K k"]:
        """Weights [draws, k], each row summing to 1."""
        random = torch.Generator().manual_seed((self.seed * 1_000_003 + update) * 1_000_003 + task)
        raw = torch.empty(self.draws, like.shape[-1], dtype=torch.float64).exponential_(generator=random)
        return (raw / raw.sum(-1, keepdim=True)).to(like)
