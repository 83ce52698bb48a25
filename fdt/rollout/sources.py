"""Where the actions of an optimiser step come from: a file (replay), or the current policy (on-policy)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.errors import UserError
from fdt.rollout.actor import Actor
from fdt.rollout.advantages import compute_advantages, spread_advantages
from fdt.rollout.dynamic_sampling import DynamicSampling, SampledRollout, sample_rollout
from fdt.rollout.place import REWRITES, RolloutPosition
from feedback.types import Episode, Turn, collect_tasks
from objectives import Credit


class Source(ABC):
    """Makes the batches of one rollout at a time."""

    @property
    @abstractmethod
    def steps_per_rollout(self) -> int:
        """Optimiser steps that one rollout yields."""

    @abstractmethod
    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        """Rollouts in one epoch over these recorded episodes."""

    @abstractmethod
    def make_batches(
        self, place: RolloutPosition, episodes: Sequence[Episode], credit: Credit, actor: Actor
    ) -> list[Batch]:
        """The batches of one rollout on this rank, ``steps_per_rollout`` of them."""


@dataclass(frozen=True)
class Replay(Source):
    """Recorded responses are the actions. Their behaviour log-probs are unknown; ``behaviour`` says how that is met.

    Advantages come from the whole file, so that a group need not lie in one step.
    """

    rows_per_step: int = 16
    """Recorded rows in one optimiser step, over all ranks."""
    behaviour: str = "start"
    """start: the starting policy stands in for whoever wrote the answers, and the ratio is truncated by the policy
    term; drop: the scalar stream is left out, critiques and revisions still teach."""

    def __post_init__(self) -> None:
        if self.behaviour not in ("start", "drop"):
            raise UserError("data.source.behaviour", got=self.behaviour, expected="start or drop")

    @property
    def steps_per_rollout(self) -> int:
        return 1

    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        return -(-len(episodes) // self.rows_per_step)

    def make_batches(
        self, place: RolloutPosition, episodes: Sequence[Episode], credit: Credit, actor: Actor
    ) -> list[Batch]:
        began = place.number * self.rows_per_step
        chosen = place.draw_permutation(len(episodes))[began : began + self.rows_per_step]
        mine = chosen[place.rank :: place.world]
        worth = compute_advantages(credit, episodes)
        # A rank without rows asks for no drafts, but under FSDP2 it must take part in writing the others'.
        if actor.rewriter is not None and actor.rewriter.joins:
            raise UserError(
                "rewrites cannot join recorded groups, whose advantages come from the whole file",
                got=True,
                expected="false, or data.source OnPolicy",
                key="data.rewriter.joins",
            )
        rows = actor.rewrite([episodes[i] for i in mine], place.derive_seed(REWRITES))
        batch = actor.collator(rows, worth[mine], acted=self.behaviour == "start") if rows else None
        batch = batch if batch is not None else build_dummy_batch(episodes[chosen[0]], actor)
        return [replace(spread_advantages(batch, credit), behaviour="start", info={})]


@dataclass(frozen=True)
class OnPolicy(Source):
    """The current policy answers the recorded prompts afresh and a grader judges each answer."""

    prompts_per_rollout: int = 4
    """Prompts of one rollout, over all ranks."""
    num_generations: int = 4
    """Answers to each prompt (TRL: num_generations)."""
    updates_per_rollout: int = 1
    """Optimiser steps that one rollout is cut into; above 1 the log-probs of the rollout are kept and the ratio clips."""
    num_iterations: int = 1
    """Passes over one rollout."""
    dynamic: DynamicSampling | None = None
    """What becomes of prompts whose answers all scored the same; null: they stay, with advantage 0."""

    @property
    def steps_per_rollout(self) -> int:
        return self.updates_per_rollout * self.num_iterations

    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        return -(-len(collect_tasks(episodes)) // self.prompts_per_rollout)

    def make_batches(
        self, place: RolloutPosition, episodes: Sequence[Episode], credit: Credit, actor: Actor
    ) -> list[Batch]:
        tasks = collect_tasks(episodes)
        began = place.number * self.prompts_per_rollout
        chosen = place.draw_permutation(len(tasks))[began : began + self.prompts_per_rollout]
        start = time.perf_counter()
        drawn = sample_rollout(
            self.dynamic, place, tasks, chosen, lambda some, seed: actor.generate_episodes(some, seed, self.num_generations)
        )
        drawn = drawn.extend_episodes(actor.add_group_hints(actor.rewrite(drawn.episodes, place.derive_seed(REWRITES))))
        seconds = time.perf_counter() - start
        batches = self._split_updates(drawn, compute_kept_advantages(drawn, credit, place.shared_seed), actor)
        whole = [
            spread_advantages(batch if batch is not None else build_dummy_batch(episodes[0], actor), credit)
            for batch in batches
        ]
        if self.steps_per_rollout > 1:
            whole = [actor.store_old_log_probs(batch) for batch in whole]
        # What sampling took belongs to the first step of the rollout.
        info = [{"generate_s": seconds, **drawn.info}] + [{"generate_s": 0.0}] * (self.steps_per_rollout - 1)
        return [replace(b, info=i) for b, i in zip(whole * self.num_iterations, info, strict=True)]

    def _split_updates(self, drawn: SampledRollout, worth: Tensor, actor: Actor) -> list[Batch | None]:
        # Kept answers first: each update gets its share of them.
        order = drawn.kept.logical_not().int().argsort(stable=True).tolist()
        heard = {e.task.key for e, kept in zip(drawn.episodes, drawn.kept.tolist(), strict=True) if kept}
        batches = []
        for part in range(self.updates_per_rollout):
            index = order[part :: self.updates_per_rollout]
            batch = actor.collator([drawn.episodes[i] for i in index], worth[index]) if index else None
            batches.append(batch if batch is None else restrict_sampled(batch, heard))
        return batches


def compute_kept_advantages(drawn: SampledRollout, credit: Credit, update: int = 0) -> Tensor:
    """Advantages ``[E]`` or ``[E, S]``: those that are kept compared with each other over all ranks, 0 for the rest."""
    kept = drawn.kept.tolist()
    found = compute_advantages(credit, list(compress(drawn.episodes, kept)), everywhere=True, update=update)
    worth = found.new_zeros(len(kept), *found.shape[1:])
    worth[drawn.kept] = found
    return worth


def restrict_sampled(batch: Batch, tasks: set[str]) -> Batch:
    """The batch with the answers to these tasks alone in the scalar stream."""
    named = torch.tensor([episode.task.key in tasks for episode in batch.episodes])
    marks = batch.rollouts.masks
    marks = marks | {"sampled": marks["sampled"] & named[batch.rollouts.episode]}
    return replace(batch, rollouts=replace(batch.rollouts, masks=marks))


def build_dummy_batch(episode: Episode, actor: Actor) -> Batch:
    """One silent row for a rank that has nothing to say in a step; a task not played yet gets an empty answer."""
    whole = replace(actor.collator, max_tokens=2**31, hint=None)
    turns = episode.turns or (Turn("assistant", ""),)
    batch = whole([replace(episode, turns=turns, feedback=())], torch.zeros(1))
    assert batch is not None
    return replace(batch.zero_weights(), episodes=())
