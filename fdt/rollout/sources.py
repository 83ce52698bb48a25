"""Where the answers of an optimiser step come from: a file (replay), or the current policy (on-policy).

Each step of a rollout is a method that a subclass may override: draw, grade, rewrite, assign_advantages, collate.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.distributed import gather_objects
from fdt.errors import UserError
from fdt.rollout.actor import Actor
from fdt.rollout.advantages import compute_advantages
from fdt.rollout.curricula.base import Curriculum, SamplingSettings, describe_curriculum
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.dynamic_sampling import DynamicSampling, SampledRollout, restrict_sampled, sample_rollout
from fdt.rollout.memory import ScoredMemory
from fdt.rollout.place import REWRITES, RolloutPosition
from feedback.types import Episode, Task, collect_tasks


class Source(ABC):
    """Makes the batches of one rollout at a time."""

    on_policy: bool = True
    """Whether the answers are fresh ones of the current policy."""
    max_staleness: int = 0
    """Rollouts that are made ahead, while the policy learns from earlier ones."""
    takes_share: bool = True
    """Whether a share of the file's prompts can be held out; where the file grows, a file of its own is needed."""
    curriculum: Curriculum | None = None
    """Which prompts come when; None: all in turn, in an order that is drawn anew each epoch."""

    @property
    @abstractmethod
    def steps_per_rollout(self) -> int:
        """Optimiser steps that one rollout yields."""

    @abstractmethod
    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        """Rollouts in one epoch over these recorded episodes."""

    def make_batches(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> list[Batch]:
        """The batches of one rollout on this rank, ``steps_per_rollout`` of them."""
        began = time.perf_counter()
        rollout = self.sample(position, recorded, actor)
        seconds = time.perf_counter() - began
        return self.build_batches(rollout, seconds if self.on_policy else 0.0, position, recorded, actor)

    def sample(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> SampledRollout:
        """What a rollout takes from the policy: answers, judged and rewritten."""
        return self.rewrite(self.draw(position, recorded, actor), position, actor)

    def build_batches(
        self, rollout: SampledRollout, seconds: float, position: RolloutPosition, recorded: Recorded, actor: Actor
    ) -> list[Batch]:
        """The batches of answers that took the run ``seconds``, which belong to the first step of the rollout."""
        rollout = self.recall(rollout, position, actor)
        advantages = self.assign_advantages(rollout, position, recorded)
        batches = self.collate(rollout, advantages, recorded, actor)
        info = [{"time/generate": seconds, **rollout.info}] + [{}] * (len(batches) - 1)
        return [replace(batch, info=own) for batch, own in zip(batches, info, strict=True)]

    @abstractmethod
    def draw(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> SampledRollout:
        """This rank's answers of the rollout, graded."""

    def grade(self, episodes: list[Episode], seed: int, actor: Actor) -> list[Episode]:
        """Has fresh answers graded; further measurements may join `Episode.measures`. Every rank calls equally often.

        Args:
            episodes: fresh answers of this rank.
            seed: for whatever is sampled to grade them.
        """
        return actor.grade(episodes)

    def rewrite(self, rollout: SampledRollout, position: RolloutPosition, actor: Actor) -> SampledRollout:
        """Has what was criticised rewritten."""
        rewritten = actor.rewrite(rollout.episodes, position.derive_seed(REWRITES))
        return rollout.extend_episodes(rewritten)

    def recall(self, rollout: SampledRollout, position: RolloutPosition, actor: Actor) -> SampledRollout:
        """Adds answers of earlier steps."""
        return rollout

    @abstractmethod
    def assign_advantages(self, rollout: SampledRollout, position: RolloutPosition, recorded: Recorded) -> Tensor:
        """Advantages ``[E]`` or ``[E, S]`` of the rollout's answers."""

    @abstractmethod
    def collate(self, rollout: SampledRollout, advantages: Tensor, recorded: Recorded, actor: Actor) -> list[Batch]:
        """The rollout as tensors: ``steps_per_rollout`` batches."""


@dataclass(frozen=True)
class Replay(Source):
    """Recorded responses are the samples. Their log-probs when sampled are unknown; ``behaviour`` replaces them.

    Advantages come from the whole file, so that a group need not lie in one step.
    """

    on_policy = False

    rows_per_step: int = 16
    """Recorded rows in one optimiser step, over all ranks."""
    behaviour: str = "start"
    """start: the starting policy stands in for whoever wrote the answers, and the ratio is truncated by the policy
    term; drop: scores are left out, critiques are distilled and revisions imitated."""
    curriculum: Curriculum | None = None
    """Which rows come when, such as fdt.rollout.curricula.Stages; null: all of them, shuffled each epoch."""

    def __post_init__(self) -> None:
        if self.behaviour not in ("start", "drop"):
            raise UserError("data.source.behaviour", got=self.behaviour, expected="start or drop")

    @property
    def steps_per_rollout(self) -> int:
        return 1

    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        if self.curriculum is not None:
            return self.curriculum.count_rollouts([episode.task for episode in episodes], self.rows_per_step)
        return -(-len(episodes) // self.rows_per_step)

    def draw(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> SampledRollout:
        episodes = [recorded.episodes[i] for i in self._choose_own(position, recorded)]
        info = {}
        if self.curriculum is not None:
            info = describe_curriculum(self.curriculum, position, recorded.row_tasks, self.rows_per_step)
        return SampledRollout(episodes, torch.ones(len(episodes), dtype=torch.bool), info)

    def rewrite(self, rollout: SampledRollout, position: RolloutPosition, actor: Actor) -> SampledRollout:
        # A rank without rows asks for no drafts, but under FSDP2 it must take part in writing the others'.
        if actor.rewriter is not None and actor.rewriter.add_to_group:
            raise UserError(
                "rewrites cannot join recorded groups, whose advantages come from the whole file",
                got=True,
                expected="false, or data.source OnPolicy",
                key="data.rewriter.add_to_group",
            )
        return super().rewrite(rollout, position, actor)

    def assign_advantages(self, rollout: SampledRollout, position: RolloutPosition, recorded: Recorded) -> Tensor:
        return recorded.advantages[self._choose_own(position, recorded)]

    def _choose_own(self, position: RolloutPosition, recorded: Recorded) -> list[int]:
        """Which recorded rows this rank has of the rollout."""
        if self.curriculum is not None:
            chosen = self.curriculum.choose(position, recorded.row_tasks, self.rows_per_step)
        else:
            chosen = recorded.choose(position, len(recorded.episodes), self.rows_per_step)
        return chosen[position.rank :: position.world_size]

    def collate(self, rollout: SampledRollout, advantages: Tensor, recorded: Recorded, actor: Actor) -> list[Batch]:
        rows = actor.attach_skills(rollout.episodes)
        names = recorded.score_names
        batch = actor.collator(rows, advantages, self.behaviour == "start", names) if rows else None
        batch = batch if batch is not None else actor.collator.build_stand_in(names)
        return [replace(batch, behaviour="start")]


@dataclass(frozen=True)
class OnPolicy(Source):
    """The current policy answers the recorded prompts afresh and a grader judges each answer."""

    prompts_per_rollout: int = 4
    """Prompts of one rollout, over all ranks."""
    num_generations: int = 4
    """Answers to each prompt."""
    updates_per_rollout: int = 1
    """Optimiser steps that one rollout is split into; above 1 its log-probs are kept, and the ratio is clipped."""
    num_iterations: int = 1
    """Passes over one rollout."""
    dynamic: DynamicSampling | None = None
    """What is done about prompts whose answers all scored the same; null: they stay, with advantage 0."""
    memory: ScoredMemory | None = None
    """Scored answers of earlier steps, used again where scores are few; null: none."""
    max_staleness: int = 0
    """Rollouts that are sampled ahead, while the policy learns from those before them: rollout n comes from the weights
    after n - max_staleness rollouts. 0 waits for each; 1 overlaps sampling and update."""
    curriculum: Curriculum | None = None
    """Which prompts come when, such as fdt.rollout.curricula.Stages; null: all of them, shuffled each epoch."""

    def __post_init__(self) -> None:
        if self.max_staleness < 0:
            raise UserError("data.source.max_staleness", got=self.max_staleness, expected="a number of at least 0")
        if self.memory is not None and self.steps_per_rollout > 1:
            raise UserError(
                "data.source.memory",
                got=f"{self.steps_per_rollout} steps a rollout",
                expected="updates_per_rollout 1 and num_iterations 1",
            )

    @property
    def steps_per_rollout(self) -> int:
        return self.updates_per_rollout * self.num_iterations

    @property
    def smallest_group(self) -> int:
        """Fewest answers to a prompt, in any stage of the curriculum."""
        sampling = [] if self.curriculum is None else self.curriculum.list_sampling()
        return min((own.num_generations or self.num_generations for own in sampling), default=self.num_generations)

    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        tasks = collect_tasks(list(episodes))
        if self.curriculum is not None:
            return self.curriculum.count_rollouts(tasks, self.prompts_per_rollout)
        return -(-len(tasks) // self.prompts_per_rollout)

    def draw(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> SampledRollout:
        def generate(tasks: list[Task], seed: int) -> list[Episode]:
            return self.grade(self._answer(tasks, seed, position, recorded, actor), seed, actor)

        tasks, chosen = recorded.tasks, self._choose(position, recorded)
        if self.curriculum is None:
            return sample_rollout(self.dynamic, position, tasks, chosen, generate)
        place = (position, tasks, self.prompts_per_rollout)
        open_numbers = self.curriculum.list_open(*place)
        drawn = sample_rollout(self.dynamic, position, tasks, chosen, generate, open_numbers)
        return replace(drawn, info=drawn.info | describe_curriculum(self.curriculum, *place, drawn.episodes))

    def _choose(self, position: RolloutPosition, recorded: Recorded) -> list[int]:
        """Numbers of the rollout's prompts, over all ranks."""
        if self.curriculum is not None:
            return self.curriculum.choose(position, recorded.tasks, self.prompts_per_rollout)
        return recorded.choose(position, len(recorded.tasks), self.prompts_per_rollout)

    def generate_first(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> list[Episode]:
        """The answers that `draw` asks for first, not judged yet."""
        own = self._choose(position, recorded)[position.rank :: position.world_size]
        tasks = [recorded.tasks[n] for n in own]
        return self._answer(tasks, position.derive_seed(0), position, recorded, actor)

    def _answer(
        self, tasks: list[Task], seed: int, position: RolloutPosition, recorded: Recorded, actor: Actor
    ) -> list[Episode]:
        """Answers to some prompts of a rollout, as many and as long as its stage has them."""
        own = SamplingSettings()
        if self.curriculum is not None:
            own = self.curriculum.get_sampling(position, recorded.tasks, self.prompts_per_rollout)
        number = own.num_generations or self.num_generations
        return actor.generate_episodes(tasks, seed, number, max_new_tokens=own.max_new_tokens)

    def rewrite(self, rollout: SampledRollout, position: RolloutPosition, actor: Actor) -> SampledRollout:
        rewritten = actor.rewrite(rollout.episodes, position.derive_seed(REWRITES))
        return rollout.extend_episodes(actor.add_group_hints(rewritten))

    def recall(self, rollout: SampledRollout, position: RolloutPosition, actor: Actor) -> SampledRollout:
        if self.memory is None:
            return rollout
        weigh = None if actor.trust is None else actor.trust.weigh_score
        recalled = self.memory.recall(rollout.episodes, position.shared_seed, weigh)
        kept = torch.cat([rollout.kept, torch.ones(len(recalled), dtype=torch.bool)])
        return replace(rollout, episodes=[*rollout.episodes, *recalled], kept=kept)

    def assign_advantages(self, rollout: SampledRollout, position: RolloutPosition, recorded: Recorded) -> Tensor:
        """Answers that are kept compared with each other over all ranks; 0 for the rest."""
        kept = list(compress(rollout.episodes, rollout.kept.tolist()))
        found = compute_advantages(recorded.credit, kept, all_ranks=True, update=position.shared_seed)
        advantages = found.new_zeros(len(rollout.episodes), *found.shape[1:])
        advantages[rollout.kept] = found
        return advantages

    def collate(self, rollout: SampledRollout, advantages: Tensor, recorded: Recorded, actor: Actor) -> list[Batch]:
        own = frozenset().union(*(episode.scores for episode in rollout.episodes))
        actor.score_names |= own.union(*gather_objects(own))
        # Kept answers first: each update gets its share of them.
        order = rollout.kept.logical_not().int().argsort(stable=True).tolist()
        kept = {e.task.key for e, keep in zip(rollout.episodes, rollout.kept.tolist(), strict=True) if keep}
        batches = []
        for part in range(self.updates_per_rollout):
            index = order[part :: self.updates_per_rollout]
            rows = [rollout.episodes[i] for i in index]
            batch = actor.collator(rows, advantages[index], names=actor.score_names) if rows else None
            batch = actor.collator.build_stand_in(actor.score_names) if batch is None else restrict_sampled(batch, kept)
            batches.append(batch if self.steps_per_rollout == 1 else actor.store_old_log_probs(batch))
        return batches * self.num_iterations
