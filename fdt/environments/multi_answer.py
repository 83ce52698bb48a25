"""One question, several answers in one response: as training on sets of answers needs (VPO, arXiv 2605.22817)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fdt.environments.base import Environment
from fdt.environments.single import SingleTurn
from feedback.types import Task

REQUEST = "Give {m} different answers, each between tags of its own: {tags}."


@dataclass(frozen=True)
class MultiAnswer(SingleTurn):
    """Another environment's questions with a request for several answers, as `feedback.graders.AnswerSet` reads them.

    Name that grader under `data.grader`, with the same `answers` and `tag`.
    """

    task_source: Environment
    """Where the questions come from; the request is added to their last message."""
    answers: int = 3
    """How many answers."""
    tag: str = "answer"
    """Name of the tags, before the number."""
    request: str = REQUEST
    """The request: {m} stands for the number, {tags} for the tags."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return [self._add_request(task) for task in self.task_source.sample_tasks(split, count, seed)]

    def _add_request(self, task: Task) -> Task:
        tags = ", ".join(f"<{self.tag}_{n}>...</{self.tag}_{n}>" for n in range(1, self.answers + 1))
        request = self.request.replace("{m}", str(self.answers)).replace("{tags}", tags)
        *before, last = task.messages
        return replace(task, messages=(*before, last | {"content": f"{last['content']}\n\n{request}"}))
