"""Sampling and update at the same time, on a schedule that depends on the step alone.

With ``max_staleness`` k, rollout n is sampled by the weights after n - k rollouts (the first k + 1 by the starting
ones): when the policy begins to learn from rollout n, its weights are handed to the engine for rollout n + k. Which
weights sample which rollout is thus fixed, so that a resumed run repeats it.

A checkpoint waits until what is under way is finished and on disk, and names those files by their SHA-256. For k = 1
that costs nothing, as the next step needs that rollout anyway.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from fdt.data.batch import Batch
from fdt.distributed import create_group, gather_objects, use_group
from fdt.rollout.actor import Actor
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.overlap.background import build_background_actor
from fdt.rollout.overlap.store import FinishedRollout, RolloutStore
from fdt.rollout.overlap.worker import Worker
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy


@dataclass
class Prefetcher:
    """Rollouts of one rank, each made while the policy learns from those before it.

    Args:
        source: makes them.
        recorded: what the run's prompts come from.
        actor: of training; the second thread gets one of its own.
        store: keeps what is finished.
        total: rollouts of the whole run; None where nobody knows.
        locate: the position of a rollout, by its number in the run.
        digest: names the weights as they are now.
        gated: whether a gate corrects what stale answers were sampled by; else their log-probs when sampled are the
            old ones of the ratio.
        expected: of the checkpoint that the run goes on from: SHA-256 of each file that is still to be learned from.
    """

    source: OnPolicy
    recorded: Recorded
    actor: Actor
    store: RolloutStore
    total: int | None
    locate: Callable[[int], RolloutPosition]
    digest: Callable[[], str]
    gated: bool
    expected: dict[int, str] = field(default_factory=dict)
    jobs: dict[int, Future[FinishedRollout]] = field(default_factory=dict)
    following: int | None = None
    """The rollout that is learned from next; None before the first."""
    saved: list[int] = field(default_factory=list)
    """`following` at the checkpoints written so far, the last two."""
    worker: Worker = field(default_factory=Worker)

    def __post_init__(self) -> None:
        self.group = create_group()
        # One of its own for the other thread: tokenizers are not safe to share.
        self.tokenizer = copy.deepcopy(self.actor.collator.tokenizer)

    def make_batches(self, number: int) -> list[Batch]:
        """The batches of a rollout; begins with those after it, as far ahead as the schedule goes."""
        last = number + self.source.max_staleness
        last = last if self.total is None else max(number, min(last, self.total - 1))
        for ahead in range(number, last + 1):
            if ahead not in self.jobs:
                self.jobs[ahead] = self._begin(ahead, number)
        began = time.perf_counter()
        finished = self.jobs.pop(number).result()
        waited = time.perf_counter() - began
        self.following = number + 1
        self._count(finished)
        return self._build_batches(finished, waited)

    def wait(self) -> None:
        """Returns when nothing is under way, and the engine free for other weights; faults are met where the rollout is
        asked for."""
        for job in self.jobs.values():
            job.exception()

    def pack_state(self) -> list[dict[str, str]]:
        """For each rank, SHA-256 of the files that are still to be learned from; every rank must call. Removes those
        that no checkpoint asks for any more."""
        self.wait()
        pending = {str(n): self.store.digests[n] for n, job in self.jobs.items() if job.exception() is None}
        if self.following is not None and self.following not in self.saved:
            self.saved = [*self.saved[-1:], self.following]
            self.store.remove_before(self.saved[0])
        return gather_objects(pending)

    def _begin(self, number: int, version: int) -> Future[FinishedRollout]:
        """A rollout that is sampled by the present weights, unless it is on disk."""
        weights = self.digest()
        wanted = self.expected.pop(number, None)
        found = self.store.read(number, weights, wanted)
        if all(gather_objects(found is not None)) and found is not None:
            done: Future[FinishedRollout] = Future()
            done.set_result(found)
            return done
        if wanted is not None:
            rank_zero_warn(
                f"rollout {number}, which the checkpoint asks for, is not in {self.store.folder}: the present weights "
                "sample it anew, so that this run differs from one that was not interrupted"
            )
        position = self.locate(number)
        engine = self.actor.engine.freeze(self.actor.policy)
        answers = None
        before = self.actor.episode_counts.copy()
        if engine is None:
            answers = self.source.generate_first(position, self.recorded, self.actor)
        actor = build_background_actor(self.actor, self.tokenizer, engine, answers)
        actor.episode_counts.update(self.actor.episode_counts - before)
        self.actor.episode_counts = before
        return self.worker.submit(partial(self._sample, number, version, weights, position, actor))

    def _sample(
        self, number: int, version: int, weights: str, position: RolloutPosition, actor: Actor
    ) -> FinishedRollout:
        """In the other thread: makes the rollout and keeps it."""
        began = time.perf_counter()
        with use_group(self.group):
            rollout = self.source.sample(position, self.recorded, actor)
        finished = FinishedRollout(
            number=number,
            version=version,
            weights=weights,
            key=self.store.key,
            seconds=time.perf_counter() - began,
            episodes=rollout.episodes,
            kept=rollout.kept.tolist(),
            info=rollout.info,
            rejections=dict(actor.rejections),
            episode_counts=dict(actor.episode_counts),
            truncated=dict(actor.collator.truncated),
        )
        return self.store.write(finished)

    def _count(self, finished: FinishedRollout) -> None:
        """The account counts a rollout when it is learned from, so that a resumed run counts each once."""
        self.actor.rejections.update(finished.rejections)
        self.actor.episode_counts.update(finished.episode_counts)
        self.actor.collator.truncated.update(finished.truncated)

    def _build_batches(self, finished: FinishedRollout, waited: float) -> list[Batch]:
        position = self.locate(finished.number)
        steps = self.source.steps_per_rollout
        stale = (finished.number - finished.version) * steps
        rollout = finished.sampled
        rollout = replace(rollout, episodes=[replace(episode, staleness=stale) for episode in rollout.episodes])
        batches = self.source.build_batches(rollout, waited, position, self.recorded, self.actor)
        found = []
        for place, batch in enumerate(batches):
            info: dict[str, Any] = {"sampling/staleness": float(stale + place) if position.rank == 0 else 0.0}
            if place == 0:
                info["time/sample"] = finished.seconds / position.world_size
            own = batch if self.gated or not stale else use_engine_log_probs(batch)
            found.append(replace(own, info=own.info | info))
        return found


def use_engine_log_probs(batch: Batch) -> Batch:
    """The batch with the log-probs under which its tokens were sampled as the old ones of every ratio; recalled answers
    have theirs already."""
    rollouts = batch.rollouts
    if rollouts.engine_log_probs is None:
        return batch
    old = rollouts.engine_log_probs
    if rollouts.old_log_probs is not None and batch.rollouts.masks["recalled"].any():
        old = rollouts.old_log_probs.where(batch.rollouts.masks["recalled"], old)
    return replace(batch, rollouts=replace(rollouts, old_log_probs=old))
