"""What a bank can grow from: answers of a training step, and held-out records made into episodes again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fdt.data.batch import Batch
from fdt.errors import UserError
from feedback.skills import Attempt, Skills
from feedback.types import Episode, Feedback, Task, Turn

Record = Mapping[str, Any]
Judge = Callable[[float], bool]
"""Whether a score counts as a success."""


def list_trained(batch: Batch, tasks: Mapping[str, Task], skills: Skills, is_won: Judge) -> list[Attempt]:
    """The fresh scored answers of a step, each once, under the task as it was before skills were shown: a skill is
    learned from what was asked, and not from the skills that stood beside it.

    Args:
        tasks: those of the run, by key.
    """
    fresh = {e.id: e for e in batch.episodes if not (e.is_recalled or e.is_rewrite or math.isnan(e.score))}
    asked = [replace(e, task=tasks.get(e.task.key, e.task)) for e in fresh.values()]
    return [Attempt(e, skills.get_category(e.task), is_won(e.score)) for e in asked]


def list_measured(records: Sequence[Record], tasks: Iterable[Task], skills: Skills, is_won: Judge) -> list[Attempt]:
    """The scored answers of held-out records; each of its samples where a record has several.

    Raises:
        UserError: where the evaluation keeps no answers.
    """
    known = {task.key: task for task in tasks}
    found = []
    for record in records:
        if "response" not in record:
            raise UserError(
                "skills are learned from answers, and the held-out measure gives none",
                expected="fdt.evaluation.base.Answers or fdt.evaluation.PassAtK",
                key="data.evaluation",
            )
        task = known[record["id"]]
        for number, answer in enumerate(record.get("samples") or [record]):
            if answer.get("score") is not None:
                episode = build_episode(f"{task.key}#{number}", task, answer)
                found.append(Attempt(episode, skills.get_category(task), is_won(episode.score)))
    return found


def build_episode(name: str, task: Task, answer: Record) -> Episode:
    """One held-out answer as an episode again: its turns, its score, and what was said about it."""
    turns = [Turn(one["role"], one["text"]) for one in answer.get("conversation") or []]
    said = Feedback("environment", None, "score", float(answer["score"]), answer.get("critique"))
    return Episode(name, task, tuple(turns) or (Turn("assistant", answer["response"]),), (said,))
