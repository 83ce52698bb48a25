"""A prefetcher for a run, from its trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Trainer

from fdt.engines.fingerprint import compute_fingerprint
from fdt.policy.fsdp import reshard
from fdt.rollout.actor import Actor
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.overlap.prefetcher import Prefetcher
from fdt.rollout.overlap.store import RolloutStore, describe_settings
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy, Source


def build_prefetcher(
    trainer: Trainer,
    source: Source,
    recorded: Recorded,
    actor: Actor,
    position: RolloutPosition,
    pending: Sequence[dict[str, str]],
) -> Prefetcher:
    """
    Args:
        position: any of the run's rollouts, on this rank.
        pending: as `Prefetcher.pack_state` gave it to the checkpoint that the run goes on from; empty for none.
    """
    assert isinstance(source, OnPolicy)
    size = source.count_rollouts(recorded.episodes)
    learner: Any = trainer.lightning_module

    def locate(number: int) -> RolloutPosition:
        return replace(position, epoch=number // size, rollout=number % size)

    def digest() -> str:
        reshard(actor.policy)  # a forward without gradient leaves the root gathered
        return hashlib.sha256(repr(compute_fingerprint(actor.policy)).encode()).hexdigest()

    own = pending[position.rank] if len(pending) == position.world_size else {}
    key = describe_settings(
        seed=position.seed,
        rank=position.rank,
        world_size=position.world_size,
        prompts=source.prompts_per_rollout,
        generations=source.num_generations,
    )
    return Prefetcher(
        source,
        recorded,
        actor,
        RolloutStore(Path(trainer.default_root_dir) / "rollouts", position.rank, key),
        count_rollouts_of_run(trainer, size, source.steps_per_rollout),
        locate,
        digest,
        "engine_log_probs" in learner.objective.reads,
        {int(number): value for number, value in own.items()},
    )


def count_rollouts_of_run(trainer: Trainer, size: int, steps: int) -> int | None:
    """Rollouts until the run ends by its own limits; None where it has none.

    Args:
        size: rollouts of an epoch.
        steps: optimiser steps of a rollout.
    """
    limits = [] if trainer.max_steps is None or trainer.max_steps < 0 else [-(-trainer.max_steps // steps)]
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * size)
    return min(limits, default=None)
