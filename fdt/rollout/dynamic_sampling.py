"""Dynamic sampling: groups whose answers all scored the same are left out, and other prompts may stand in for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.errors import UserError
from fdt.rollout.advantages import gather_rollouts
from fdt.rollout.place import RolloutPosition
from feedback.types import Episode, Task
from objectives import Reward, select_informative
from objectives.gates.rows import get_score

Generate = Callable[[list[Task], int], list[Episode]]


@dataclass(frozen=True)
class DynamicSampling:
    """Takes groups of equal scores out of the policy gradient (DAPO, arXiv 2503.14476 section 3.2): they have no
    advantage and count in no mean or denominator. Critiques of their answers are still distilled.

    ``train/reward/mean`` is then the mean of the answers that are kept, ``train/reward/mean_sampled`` that of all.
    """

    max_refills: int = 0
    """Rounds in which further prompts replace those whose scores are equal; 0: they are only dropped."""
    score: str = "score"
    """Which score must differ within a group; as the grader gave it, before a reward adds lengths or formats."""
    min_std: float = 0.0
    """A group is kept where this score's (population) deviation is larger; SRL (arXiv 2510.25992) sets it above 0."""
    reward: Reward | None = None
    """What must differ in place of `score`: a reward of the credit's kind, such as objectives.FormatGate, where answers
    of one score may have different rewards."""

    def __post_init__(self) -> None:
        if self.max_refills < 0 or self.min_std < 0:
            got = f"max_refills {self.max_refills}, min_std {self.min_std}"
            raise UserError("data.source.dynamic", got=got, expected="numbers of at least 0")

    def filter_groups(self, episodes: list[Episode]) -> FilterResult:
        """Compares the answers of all ranks; every rank must call."""
        rollouts, mine = gather_rollouts(episodes, all_ranks=True)
        try:
            scores = get_score(rollouts, self.score) if self.reward is None else self.reward(rollouts)
        except ValueError as fault:
            key = "data.source.dynamic." + ("score" if self.reward is None else "reward")
            raise UserError(str(fault), key=key) from fault
        kept = select_informative(scores, rollouts.task, self.min_std)
        return FilterResult(kept[mine], len(rollouts.task[kept].unique()), len(rollouts.task.unique()), scores)


@dataclass(frozen=True)
class FilterResult:
    """Which of this rank's answers are kept, ``[E]`` bool; over all ranks the number of kept groups and of all groups,
    and every answer's score."""

    kept: Tensor
    kept_groups: int
    groups: int
    scores: Tensor


@dataclass(frozen=True)
class SampledRollout:
    """A rollout's answers on this rank, which of them the policy gradient trains on (``[E]`` bool), and its metrics."""

    episodes: list[Episode]
    kept: Tensor
    info: dict[str, float] = field(default_factory=dict)

    def extend_episodes(self, episodes: list[Episode]) -> SampledRollout:
        """With these episodes in place of its own, which come first; further ones are kept where their group is."""
        groups = {episode.task.key for episode, kept in zip(self.episodes, self.kept.tolist(), strict=True) if kept}
        more = torch.tensor(
            [episode.task.key in groups for episode in episodes[len(self.episodes) :]], dtype=torch.bool
        )
        return replace(self, episodes=episodes, kept=torch.cat([self.kept, more]))


def sample_rollout(
    rule: DynamicSampling | None,
    position: RolloutPosition,
    tasks: list[Task],
    chosen: list[int],
    generate: Generate,
    open_numbers: Collection[int] | None = None,
) -> SampledRollout:
    """
    Args:
        rule: what to do about groups of equal scores; None keeps them, as GRPO does.
        position: the rollout; prompts and seeds are derived from it, so that a resumed run samples the same.
        tasks: all prompts.
        chosen: numbers of this rollout's prompts, over all ranks.
        generate: answers prompts under a seed and has them graded. All ranks call equally often, if
            need be with no prompts.
        open_numbers: numbers of the prompts that may replace others; None: all.
    """

    def generate_share(numbers: list[int], attempt: int) -> list[Episode]:
        own = numbers[position.rank :: position.world_size]
        return generate([tasks[n] for n in own], position.derive_seed(attempt))

    episodes = generate_share(chosen, 0)
    if rule is None:
        return SampledRollout(episodes, torch.ones(len(episodes), dtype=torch.bool))
    found = rule.filter_groups(episodes)
    spare = position.draw_replacements(len(tasks), chosen)
    spare = spare if open_numbers is None else [number for number in spare if number in open_numbers]
    wanted = found.groups
    for attempt in range(1, rule.max_refills + 1):
        missing = wanted - found.kept_groups
        if not spare[:missing]:
            break
        episodes = episodes + generate_share(spare[:missing], attempt)
        spare = spare[missing:]
        found = rule.filter_groups(episodes)
    info = {
        "sampling/answers": len(found.scores),
        "sampling/groups": found.groups,
        "sampling/groups_zero_std": found.groups - found.kept_groups,
        "sampling/groups_refilled": found.groups - wanted,
        "sampling/groups_missing": wanted - found.kept_groups,
        "reward/mean_sampled": float(found.scores.nanmean()),
    }
    # Each is of all ranks already, and is summed over ranks.
    own = {name: float(value) if position.rank == 0 else 0.0 for name, value in info.items()}
    return SampledRollout(episodes, found.kept, own)


def restrict_sampled(batch: Batch, tasks: set[str]) -> Batch:
    """The batch with the answers to these tasks alone in the policy gradient."""
    named = torch.tensor([episode.task.key in tasks for episode in batch.episodes])
    masks = batch.rollouts.masks
    masks = masks | {"sampled": masks["sampled"] & named[batch.rollouts.episode]}
    return replace(batch, rollouts=replace(batch.rollouts, masks=masks))
