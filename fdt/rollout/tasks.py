"""Tasks that an environment samples, as the splits of a run."""

from __future__ import annotations

from fdt.data.splits import DataSplits
from fdt.environments import Environment
from fdt.environments.returns import sample_tasks
from fdt.errors import UserError
from fdt.rollout.limits import EpisodeLimits
from feedback.types import Episode


def load_from_environment(environment: Environment, limits: EpisodeLimits, seed: int) -> DataSplits:
    """
    Raises:
        UserError: where the environment samples no tasks to train on or none to measure on.
    """
    name = type(environment).__name__
    tasks = sample_tasks(environment, "train", limits.tasks, seed)
    heldout = sample_tasks(environment, "heldout", limits.heldout, seed)
    for split, found in (("train", tasks), ("heldout", heldout)):
        if not found:
            raise UserError(f"{name} samples no {split} tasks", key="data.environment")
    episodes = [Episode(task.key, task, ()) for task in tasks]
    return DataSplits(
        name, len(tasks), episodes, heldout, lambda: sample_tasks(environment, "test", limits.heldout, seed)
    )
