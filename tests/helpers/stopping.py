"""An environment for tests: an episode succeeds once the policy says stop, and fails where it runs out of turns."""

from __future__ import annotations

from dataclasses import dataclass

from fdt.environments.base import Environment, Reply, Session, select_split
from feedback.types import Feedback, Task, Turn


@dataclass(frozen=True)
class Stopping(Environment):
    """Asks to go on until the policy says stop."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        names = (f"{seed} {n}" for n in range(100 * count))
        return select_split((Task(name, ({"role": "user", "content": f"{name}?"},)) for name in names), split, count)

    def start(self, task: Task, seed: int) -> Session:
        return _Asking(task)


class _Asking(Session):
    def __init__(self, task: Task) -> None:
        self.messages = task.messages

    def reply(self, turn: Turn) -> Reply:
        if "stop" in turn.text:
            return Reply((), (Feedback("environment", None, "success", 1.0),))
        return Reply(({"role": "user", "content": "and?"},), done=False)

    def truncate(self) -> tuple[Feedback, ...]:
        return (Feedback("environment", None, "success", 0.0),)
