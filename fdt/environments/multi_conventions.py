"""The small world with several right answers to each prompt, so that it can be counted which of them a policy keeps."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from fdt.environments.base import Reply, Session
from fdt.environments.conventions import CONVENTIONS, Conventions, ConventionsSession, extract_list
from feedback.types import Task, Turn


@dataclass(frozen=True)
class MultiConventions(Conventions):
    """Each user accepts several conventions and scores them alike. Critiques name one of them; demonstrations follow one.

    With `with_revision`, every answer comes back with a demonstration to imitate.
    """

    accepted_count: int = 2
    """Conventions that a user accepts."""
    demonstrated_count: int = 1
    """Of these, how many demonstrations follow, each as often; 1 is always the same one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.demonstrated_count <= self.accepted_count <= len(CONVENTIONS):
            raise ValueError(
                f"Tolerant: got {self.demonstrated_count} demonstrated of {self.accepted_count} accepted, expected at "
                f"least 1 of at most {len(CONVENTIONS)}"
            )

    def list_accepted(self, user: str) -> tuple[str, ...]:
        """The conventions that a user accepts, the one of the plain world first."""
        first = self.habits[user]
        others = [name for name in CONVENTIONS if name != first]
        return (first, *random.Random(f"accepts {self.world_seed} {user}").sample(others, self.accepted_count - 1))

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        """As in the plain world; ``meta["right"]`` holds all right lists, the reference's first."""
        return [
            replace(
                task,
                meta=task.meta
                | {"right": [CONVENTIONS[name](task.meta["digits"]) for name in self.list_accepted(task.meta["user"])]},
            )
            for task in super().sample_tasks(split, count, seed)
        ]

    def start(self, task: Task, seed: int) -> Session:
        """The user's reactions; chance is a function of the world, the task and the seed."""
        return _MultiConventionsSession(
            self, task, self.habits[task.meta["user"]], random.Random(f"{self.world_seed} {task.key} {seed}")
        )

    def write_critique(self, user: str, wanted: str, digits: str, chance: random.Random) -> str:
        """What a user says: words that fit one of the accepted conventions, not always."""
        meant = self.list_accepted(user)
        named = chance.choice(meant)
        if chance.random() < self.noise:
            named = chance.choice([other for other in CONVENTIONS if other not in meant])
        return f"It should be {CONVENTIONS[named](digits) if self.states_answer else named}."


@dataclass
class _MultiConventionsSession(ConventionsSession):
    def reply(self, turn: Turn) -> Reply:
        """As in the plain world, but that each right list scores 1 and a demonstration follows any that is shown."""
        (item,) = super().reply(turn).feedback
        score = item.score if item.score != item.score else float(extract_list(turn.text) in self.task.meta["right"])
        name = self.chance.choice(self.world.list_accepted(self.task.meta["user"])[: self.world.demonstrated_count])
        shown = f"{name}: {CONVENTIONS[name](self.task.meta['digits'])}" if self.world.with_revision else None
        return Reply(feedback=(replace(item, score=score, revision=shown),))
