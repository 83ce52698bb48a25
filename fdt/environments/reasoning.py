"""Every generator of reasoning-gym: one question, one answer, scored by reasoning-gym's own scorers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fdt.environments.base import import_required, select_split
from fdt.environments.single import SingleTurn
from fdt.errors import UserError
from feedback.types import Task


@dataclass(frozen=True)
class ReasoningGym(SingleTurn):
    """Tasks of one data set of reasoning-gym (extra `gym`), with what `feedback.graders.GymScore` needs.

    Name that grader, or another, under `data.grader`.
    """

    dataset: str = "chain_sum"
    """Name of the data set."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of its generator, such as {min_terms: 2}."""
    instruction: str = ""
    """Said after each question, for a model that would explain more than `max_new_tokens` hold."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return select_split(self._generate_tasks(random.Random(seed).randrange(2**31), 20 * count + 200), split, count)

    def _generate_tasks(self, seed: int, most: int) -> Iterator[Task]:
        gym = import_required("reasoning_gym", "reasoning-gym")
        known = import_required("reasoning_gym.factory", "reasoning-gym").DATASETS
        if self.dataset not in known:
            raise UserError("data.environment.dataset", got=self.dataset, expected=f"one of {', '.join(sorted(known))}")
        try:
            made = gym.create_dataset(self.dataset, seed=seed, size=most, **self.settings)
        except (AssertionError, TypeError, ValueError) as fault:
            raise UserError(f"data.environment.settings of {self.dataset}: {fault}", got=self.settings) from fault
        for number in range(most):
            entry = made[number]
            question = " ".join(filter(None, (str(entry["question"]), self.instruction)))
            # Equal questions are one task, whatever seed they came from.
            yield Task(
                f"{self.dataset}-{question}",
                ({"role": "user", "content": question},),
                _get_reference(entry),
                meta={"dataset": self.dataset, "entry": entry},
            )


def _get_reference(entry: dict[str, Any]) -> str | None:
    answer = entry.get("answer")
    return None if answer is None else str(answer)
