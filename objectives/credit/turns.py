"""Credits that differ between the turns of a row, by turn scores or tags: they override `compute_turns`."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from objectives import segments
from objectives.credit.episode import Credit, GroupBaseline, GroupRelative, standardise
from objectives.rewards.scores import Reward
from objectives.types import Rollouts, count_turns, find_rows_of_turns


def get_turn_score(rollouts: Rollouts, name: str) -> Float[Tensor, "S"]:
    """The turn score `name`; raises ValueError that lists the names present."""
    if name not in rollouts.turn_scores:
        raise ValueError(
            f"rollouts.turn_scores: got {sorted(rollouts.turn_scores)}, expected {name!r}. "
            "Name a score that a grader gives per turn."
        )
    return rollouts.turn_scores[name]


def index_turns(parent: Int[Tensor, "S"]) -> Int[Tensor, "S"]:
    """Position of each turn within its row, from 0; turns are numbered in time order. -1 for a turn without a row."""
    order = parent.argsort(stable=True)
    run = torch.arange(len(parent), device=parent.device)
    sizes = segments.count(parent + 1, int(parent.max()) + 2) if len(parent) else parent
    start = (sizes.cumsum(0) - sizes)[parent + 1] if len(parent) else parent
    position = torch.empty_like(parent)
    position[order] = run - start[order]
    return position.where(parent >= 0, -1)


def find_gaps(values: Float[Tensor, "S"], parent: Int[Tensor, "S"]) -> Bool[Tensor, "S"]:
    """Turns of a row that have no score (NaN) although a later turn of the row has one."""
    position = index_turns(parent)
    known = ~values.isnan() & (parent >= 0)
    last = position.new_full((int(parent.max()) + 1 if len(parent) else 0,), -1)
    last = last.scatter_reduce(0, parent[known], position[known], "amax")
    return values.isnan() & (parent >= 0) & (position < last[parent])


@dataclass(frozen=True)
class EpisodeReturn(Reward):
    """Sum of a row's turn scores (MS-GRPO, arXiv 2508.10839: every turn then receives the whole return).

    A row with an unscored turn before a scored one is absent, as is one without any score: what is not known is not 0.
    Unscored turns behind the last scored one end the row.
    """

    turn_score: str = "reward"
    """Name of the turn score."""
    missing: float | None = None
    """What an unscored turn of a scored row counts; null: the row is absent. 0 where an environment pays only some
    turns, such as the last."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        values = get_turn_score(rollouts, self.turn_score)
        parent = find_rows_of_turns(rollouts)
        known = ~values.isnan() & (parent >= 0)
        rows = len(rollouts.task)
        used = known if self.missing is None else parent >= 0
        filled = values if self.missing is None else values.nan_to_num(self.missing)
        summed = segments.total(filled[used], parent[used], rows)
        absent = segments.count(parent[known], rows) == 0
        if self.missing is None:
            absent[parent[find_gaps(values, parent)]] = True
        return summed.where(~absent, torch.nan)


@dataclass(frozen=True)
class DiscountedTurns(GroupBaseline):
    """Each turn's discounted return from there on, compared with other rows of the task at the same turn.

    G_t = r_t + gamma G_{t+1}. Turns that only one row of a task reached have advantage 0, and so have an unscored turn
    and those before it: their returns are not known. Unscored turns behind the last scored one end the row.
    """

    gamma: float = 1.0
    """Discount per turn."""
    scale: Literal["std", "none"] = "std"
    """Divide by the deviation of the compared returns, or only centre."""
    turn_score: str = "reward"
    """Name of the turn score."""
    eps: float = 1e-6
    """Added to the deviation."""
    missing: float | None = None
    """What an unscored turn of a scored row counts; null: its return is absent. 0 where an environment pays only some
    turns, such as the last."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return standardise(scores, task, self.scale, 0, self.eps)

    def compute_returns(self, rollouts: Rollouts) -> Float[Tensor, "S"]:
        """G_t of each turn; NaN where it is not known."""
        values = get_turn_score(rollouts, self.turn_score)
        parent = find_rows_of_turns(rollouts)
        position = index_turns(parent)
        behind = values.isnan() & ~find_gaps(values, parent)  # the last scored turn; adds nothing to those before
        out = values.where(~behind, 0.0) if self.missing is None else values.nan_to_num(self.missing)
        following = torch.zeros(len(rollouts.task), dtype=out.dtype, device=out.device)
        for turn in range(int(position.max()) if len(position) else -1, -1, -1):
            here = position == turn
            out[here] = out[here] + self.gamma * following[parent[here]]
            following[parent[here]] = out[here]
        if self.missing is None:
            return out.where((parent >= 0) & ~behind, torch.nan)
        absent = EpisodeReturn(self.turn_score, self.missing)(rollouts).isnan()
        return out.where((parent >= 0) & ~absent[parent], torch.nan)

    def compute_turns(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        parent = find_rows_of_turns(rollouts)
        position = index_turns(parent)
        group = rollouts.task[parent] * (int(position.max()) + 1 if len(position) else 1) + position
        values = self.compute_returns(rollouts)
        group = group.where(parent >= 0, 0)
        return standardise(values, group, self.scale, 0, self.eps)[rollouts.turn]


@dataclass(frozen=True)
class LastTurn(Credit):
    """A row's advantage on its last turn alone, 0 on all before it: what a trainer does that sees only final answers.

    The counterpart to giving each turn the whole return (MS-GRPO, arXiv 2508.10839): same numbers, another position.
    """

    credit: Credit = GroupRelative()
    """Whose advantages the last turn gets."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.credit(scores, task)

    def check(self, task: Int[Tensor, "B"]) -> None:
        self.credit.check(task)

    def compute_rows(self, rollouts: Rollouts) -> Float[Tensor, "B"]:
        return self.credit.compute_rows(rollouts)

    def compute_turns(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        parent = find_rows_of_turns(rollouts)
        last = index_turns(parent) == count_turns(rollouts)[parent] - 1
        return self.credit.compute_turns(rollouts).where(last[rollouts.turn], 0.0)


@dataclass(frozen=True)
class MetaReasoning(GroupBaseline):
    """RLVMR (arXiv 2507.22844): outcome advantage of the row plus process advantage of the turn.

    The turn's score is compared among turns of the same task and the same tag (planning, exploring, ...). The published
    code compares outcomes over turns, so long episodes weigh more; here every row counts once.
    """

    outcome: float = 0.5
    """Weight of the row's advantage; the paper's alpha (the published code uses 1)."""
    process: float = 0.5
    """Weight of the turn's advantage; the paper's 1 - alpha (the published code uses 1)."""
    turn_score: str = "meta"
    """Name of the turn score."""
    keep_lone: bool = True
    """A turn whose tag appears once in its task keeps its raw score, as published; else it has 0."""
    ddof: int = 1
    """0: population deviation; 1: sample deviation."""
    eps: float = 1e-6
    """Added to the deviation."""

    def __call__(self, scores: Float[Tensor, "B"], task: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return standardise(scores, task, "std", self.ddof, self.eps)

    def compute_turns(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        if rollouts.turn_tags is None:
            raise ValueError("rollouts.turn_tags: got None, expected [S]. Add a grader that tags each turn.")
        values = get_turn_score(rollouts, self.turn_score)
        parent = find_rows_of_turns(rollouts)
        known = ~values.isnan() & (parent >= 0)
        kinds = int(rollouts.turn_tags.max()) + 1 if len(rollouts.turn_tags) else 1
        group = (rollouts.task[parent] * kinds + rollouts.turn_tags).where(known, 0)
        process = standardise(values.where(known, torch.nan), group, "std", self.ddof, self.eps)
        if self.keep_lone:
            lone = segments.count(group[known], int(group.max()) + 1)[group] == 1
            process = torch.where(lone & known, values, process)
        return self.outcome * self.compute_rows(rollouts)[rollouts.episode] + self.process * process[rollouts.turn]
