"""Choosing rows: groups whose scores differ, and rows in proportion to their advantage."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from objectives import segments
from objectives.credit.episode import Credit, GroupRelative
from objectives.types import Rollouts


def select_informative(scores: Float[Tensor, "B"], task: Int[Tensor, "B"], min_std: float = 0.0) -> Bool[Tensor, "B"]:
    """Rows of groups whose scores deviate by more than `min_std`: dynamic sampling keeps these and refills the rest.

    Population deviation over the known scores; at 0, all-right and all-wrong groups go (DAPO, arXiv 2503.14476; with a
    threshold: SRL, arXiv 2510.25992). Rows without a score go too.
    """
    known = ~scores.isnan()
    size = int(task.max()) + 1 if len(task) else 0
    held = scores[known].double()
    where = task[known]
    wide = (segments.std(held, where, size) > min_std) & ~segments.has_no_spread(held, where, size)
    return wide[task] & known


def compute_chances(advantages: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """|A| over the group's sum of |A|; 0 in a group without advantage (MS-GRPO, arXiv 2508.10839)."""
    size = int(task.max()) + 1 if len(task) else 0
    total = segments.total(advantages.abs(), task, size)[task]
    return advantages.abs() / total.where(total > 0, 1.0)


@dataclass(frozen=True)
class AdvantageSampled(Credit):
    """Draws `keep` rows per task, with replacement, in proportion to |A|; rows not drawn have advantage 0.

    A row drawn n times among its task's G rows has advantage (G / keep) n sign(A) mean|A|, whose expectation is A: the
    gradient stays unbiased while flat rows cost nothing. The paper leaves replacement and correction open.
    """

    credit: Credit = GroupRelative()
    """Whose advantages are sampled."""
    keep: int = 4
    """Draws per task."""
    seed: int = 0
    """Seed of the draws; they also differ by optimiser step and task."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.credit(scores, task)

    def check(self, task: Int[Tensor, "B"]) -> None:
        self.credit.check(task)

    def compute_rows(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        advantages = self.credit.compute_rows(rollouts)
        share = compute_chances(advantages, rollouts.task)
        out = torch.zeros_like(advantages)
        for task in rollouts.task.unique().tolist():
            rows = (rollouts.task == task).nonzero()[:, 0]
            if share[rows].sum() == 0:
                continue
            random = torch.Generator().manual_seed((self.seed * 1_000_003 + rollouts.update) * 1_000_003 + task)
            drawn = share[rows].cpu().multinomial(self.keep, replacement=True, generator=random)
            times = torch.bincount(drawn, minlength=len(rows)).to(out)
            level = advantages[rows].abs().mean()
            out[rows] = len(rows) / self.keep * times * advantages[rows].sign() * level
        return out
