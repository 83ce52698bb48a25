"""One question, one answer: the environment of a run that names none."""

from __future__ import annotations

from dataclasses import dataclass

from fdt.environments.base import Environment, Reply, Session
from fdt.errors import UserError
from feedback.types import Task, Turn


def build_no_tasks_error(name: str) -> UserError:
    """The error of an environment whose tasks come from a file, where none is named."""
    return UserError(f"{name} has no tasks of its own", remedy="name a file of prompts", key="data.file")


@dataclass(frozen=True)
class SingleTurn(Environment):
    """Ends after the first answer; `data.grader` scores it. Tasks come from `data.file`."""

    scores_episodes = False

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        raise build_no_tasks_error(type(self).__name__)

    def start(self, task: Task, seed: int) -> Session:
        return _SingleTurnSession(task)


class _SingleTurnSession(Session):
    def __init__(self, task: Task) -> None:
        self.messages = task.messages

    def reply(self, turn: Turn) -> Reply:
        return Reply()
