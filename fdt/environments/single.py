"""One question, one answer: the environment of a run that names none."""

from __future__ import annotations

from dataclasses import dataclass

from fdt.environments.base import Environment, Reply, Session
from fdt.errors import UserError
from feedback.types import Task, Turn


def build_no_tasks_error(name: str) -> UserError:
    """What an environment says that plays the tasks of a file and was given none."""
    return UserError(f"{name} deals no tasks of its own", remedy="name a file of prompts", key="data.file")


@dataclass(frozen=True)
class SingleTurn(Environment):
    """Ends after the first answer; `data.grader` judges it. Plays the tasks of `data.file`."""

    judges = False

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        raise build_no_tasks_error(type(self).__name__)

    def start(self, task: Task, seed: int) -> Session:
        return _SingleTurnSession(task)


class _SingleTurnSession(Session):
    def __init__(self, task: Task) -> None:
        self.messages = task.messages

    def reply(self, turn: Turn) -> Reply:
        return Reply()
