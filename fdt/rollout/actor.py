"""The actor: tasks become episodes. It samples answers from the current policy, has them graded and rewritten."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from fdt.data.batch import Batch, View, build_untrained_rollouts
from fdt.data.collate import Collator
from fdt.data.rows import Row
from fdt.distributed import run_on_all
from fdt.engines import Engine
from fdt.environments import Environment, SingleTurn
from fdt.policy.annotator_trust import AnnotatorTrust
from fdt.policy.log_probs import compute_batch_log_probs
from fdt.policy.policy import Policy
from fdt.policy.teachers import disable_dropout
from fdt.rollout.drafter import PolicyDrafter
from fdt.rollout.limits import EpisodeLimits
from fdt.rollout.turn_loop import TurnLoop
from feedback.graders import Grader
from feedback.graders.base import run_grader
from feedback.hints import annotate_group
from feedback.rewriter import Rewriter
from feedback.skills import Skills
from feedback.types import Episode, Task


@dataclass
class Actor:
    """What one rank needs to make experience.

    Args:
        policy: current weights.
        engine: generates.
        collator: turns episodes into a batch.
        grader: judges fresh answers; None leaves them unscored.
        rewriter: corrects answers that were criticised; None rewrites nothing.
        budget: tokens of one forward when log-probs are computed.
        precision: the context in which training runs its forwards (autocast under bf16-mixed), so that log-probs kept
            here are those that training would compute.
        environment: what the episodes are played against; by default an episode is one answer.
        limits: how many turns, how long, and how often an episode is tried again after its environment broke.
        trust: in annotators, which decides how much a recalled answer's score counts; None where none is estimated.
        skills: which skills of a bank a task gets; None gives none.
        rejections: of rewrites, counted by reason.
        episode_counts: how the episodes of training ended.
        score_names: every name that an answer was graded by so far.
    """

    policy: Policy
    engine: Engine
    collator: Collator
    grader: Grader | None = None
    rewriter: Rewriter | None = None
    budget: int = 4096
    precision: Callable[[], AbstractContextManager] = nullcontext
    environment: Environment = SingleTurn()
    limits: EpisodeLimits = EpisodeLimits()
    skills: Skills | None = None
    trust: AnnotatorTrust | None = None
    rejections: Counter[str] = field(default_factory=Counter)
    episode_counts: Counter[str] = field(default_factory=Counter)
    score_names: frozenset[str] = frozenset()

    def generate_episodes(
        self,
        tasks: Sequence[Task],
        seed: int | None,
        num_generations: int = 1,
        counted: bool = True,
        with_skills: bool = True,
        max_new_tokens: int | None = None,
    ) -> list[Episode]:
        """Samples ``num_generations`` episodes of each task (greedily where seed is None), not graded yet; ``counted``
        is False for what is measured, which is no part of training, ``with_skills`` for prompts that hold them.
        ``max_new_tokens`` of a turn stand in for the engine's."""
        tasks = [task for task in tasks for _ in range(num_generations)]
        alone = isinstance(self.environment, SingleTurn)
        most = self.policy.positions
        context = most if alone else min(self.limits.max_context or self.collator.max_tokens, most or sys.maxsize)
        counts = self.episode_counts if counted and seed is not None else Counter()
        skills = self.skills if with_skills else None
        loop = TurnLoop(
            self.policy, self.engine, self.environment, self.limits, context, counts, skills, max_new_tokens
        )
        with self.precision():
            answered = run_on_all(lambda: loop(tasks, seed))
        episodes = (
            replace(episode, id=f"{episode.task.key}#{number % num_generations}")
            for number, episode in enumerate(answered)
        )
        return list(episodes)

    def grade(self, episodes: list[Episode]) -> list[Episode]:
        """Has the grader judge fresh answers; without one they stay as they are."""
        if self.grader is None:
            return episodes
        # A prompt that left no room for an answer has nothing to judge.
        answered = [episode for episode in episodes if episode.turns]
        grader = self.grader
        judged = iter(run_on_all(lambda: run_grader(grader, answered)))
        return [next(judged) if episode.turns else episode for episode in episodes]

    def answer_with_hints(self, episodes: Sequence[Episode], seed: int) -> list[Episode | None]:
        """One fresh, graded answer to each episode's prompt by the current policy, shown what the teacher is shown.

        Every rank must call, as often as the others.

        Args:
            episodes: graded answers, with what was said about them.
            seed: of the sampling.

        Returns:
            For each episode, in order, its hinted answer under its own task and id, scored by the environment or the
            grader as any other answer; None where nobody said anything, so that there is no hint.
        """
        hint = self.collator.hint
        prompts = [None if hint is None else hint(episode, self.collator.truncate_hint) for episode in episodes]
        asked = [n for n, prompt in enumerate(prompts) if prompt is not None]
        tasks = [replace(episodes[n].task, messages=tuple(prompts[n] or ())) for n in asked]
        fresh = self.generate_episodes(tasks, seed, counted=False, with_skills=False)
        own = [replace(one, id=episodes[n].id, task=episodes[n].task) for n, one in zip(asked, fresh, strict=True)]
        found: list[Episode | None] = [None] * len(episodes)
        for n, episode in zip(asked, self.grade(own), strict=True):
            found[n] = episode
        return found

    def attach_skills(self, episodes: list[Episode]) -> list[Episode]:
        """Recorded episodes with the skills that their tasks get, for the teacher to read."""
        if self.skills is None:
            return episodes
        found = self.skills.retrieve([episode.task for episode in episodes])
        return [replace(episode, skills=skills) for episode, skills in zip(episodes, found, strict=True)]

    def rewrite(self, episodes: list[Episode], seed: int = 0) -> list[Episode]:
        """Has what was criticised rewritten; what was not accepted is counted by reason in ``rejections``.

        Rewrites that join their group follow as episodes of their own.
        """
        if self.rewriter is None:
            return episodes
        drafter = PolicyDrafter(self.policy, self.engine)
        rewriter = self.rewriter
        with self.precision():
            rewritten, rejections = run_on_all(lambda: rewriter.rewrite(episodes, drafter, seed))
        self.rejections.update(rejections)
        return rewritten

    def add_group_hints(self, episodes: list[Episode]) -> list[Episode]:
        """Adds what a hint shows of the other answers of a group (a better one)."""
        return episodes if self.collator.hint is None else annotate_group(self.collator.hint, episodes)

    def compute_answer_log_probs(self, episodes: Sequence[Episode]) -> list[float]:
        """Sum of log-probs (nats) of each episode's answer under the current policy; NaN for an empty answer.

        For answers that the current policy has just written, the engine's own sums where it knows them; the others are
        read again.
        """
        known = [self._sum_engine_log_probs(episode) for episode in episodes]
        left = [episode for episode, value in zip(episodes, known, strict=True) if math.isnan(value)]
        read = iter(self._read_answer_log_probs(left))  # by every rank, since it is a collective
        return [next(read) if math.isnan(value) else value for value in known]

    def _sum_engine_log_probs(self, episode: Episode) -> float:
        turns = episode.policy_turns
        if not turns or not self.engine.returns_policy_log_probs:
            return math.nan
        if any(not turn.sampled or not turn.log_probs for turn in turns):
            return math.nan
        return math.fsum(value for turn in turns for value in turn.log_probs or ())

    def _read_answer_log_probs(self, episodes: Sequence[Episode]) -> list[float]:
        rows = [self.collator.tokenize_episode(episode) for episode in episodes]
        found = zip(*self.compute_row_log_probs([row for own in rows for row in own]), strict=True)
        parts = [list(islice(found, len(own))) for own in rows]
        return [sum(value for value, _ in part) if any(n for _, n in part) else math.nan for part in parts]

    def compute_row_log_probs(self, rows: list[Row]) -> tuple[list[float], list[int]]:
        """Sum of log-probs and number of target tokens of each row."""
        eos = self.policy.tokenizer.eos_token_id
        view = View.from_masks([(row.ids, row.target) for row in rows or [Row.from_context([eos], [eos])]], eos)
        batch = Batch(student=view, rollouts=build_untrained_rollouts(view.counts))
        with self.precision():
            values = compute_batch_log_probs(batch, self.policy.compute_log_probs, self.budget, self.policy)
        counts = view.counts
        row = torch.arange(len(counts)).repeat_interleave(counts)
        sums = torch.zeros(len(counts)).index_add(0, row, values)
        return sums.tolist()[: len(rows)], counts.tolist()[: len(rows)]

    def store_old_log_probs(self, batch: Batch) -> Batch:
        """The batch with the log-probs of its tokens under the policy as it is now, for updates after the first;
        without dropout, as they were sampled."""
        with self.precision(), disable_dropout(self.policy):
            found = compute_batch_log_probs(batch, self.policy.compute_log_probs, self.budget, self.policy)
        return replace(batch, rollouts=replace(batch.rollouts, old_log_probs=found))
