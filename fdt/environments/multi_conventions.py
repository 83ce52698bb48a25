"""The small world with several right answers to each prompt, so that it can be counted which of them a policy keeps."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from fdt.environments.base import Reply, Session
from fdt.environments.conventions import CONVENTIONS, Conventions, ConventionsSession, extract_list
from feedback.types import Task, Turn


@dataclass(frozen=True)
class MultiConventions(Conventions):
    """Each user accepts several conventions and scores them alike. Critiques name one; demonstrations follow one.

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
                f"MultiConventions: got demonstrated_count {self.demonstrated_count} and accepted_count "
                f"{self.accepted_count}, expected at least 1 of at most {len(CONVENTIONS)}"
            )

    def list_accepted(self, user: str) -> tuple[str, ...]:
        """The conventions that a user accepts, the one of the plain world first."""
        first = self.habits[user]
        others = [name for name in CONVENTIONS if name != first]
        return (first, *random.Random(f"accepts {self.world_seed} {user}").sample(others, self.accepted_count - 1))

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        """As in the plain world; ``meta["right"]`` holds all right lists, the reference's first."""
        found = []
        for task in super().sample_tasks(split, count, seed):
            right = [CONVENTIONS[name](task.meta["digits"]) for name in self.list_accepted(task.meta["user"])]
            found.append(replace(task, meta=task.meta | {"right": right}))
        return found

    def start(self, task: Task, seed: int) -> Session:
        """The user's reactions, drawn from the world, the task and the seed."""
        user = task.meta["user"]
        rng = random.Random(f"{self.world_seed} {task.key} {seed}")
        demonstrated = self.list_accepted(user)[: self.demonstrated_count]
        return _MultiConventionsSession(self, task, self.habits[user], rng, demonstrated)

    def write_critique(self, user: str, convention: str, digits: str, rng: random.Random) -> str:
        """A user's critique: it names one of the accepted conventions, with `noise` none of them."""
        accepted = self.list_accepted(user)
        named = rng.choice(accepted)
        if rng.random() < self.noise:
            named = rng.choice([other for other in CONVENTIONS if other not in accepted])
        return f"It should be {CONVENTIONS[named](digits) if self.states_answer else named}."


@dataclass
class _MultiConventionsSession(ConventionsSession):
    demonstrated: tuple[str, ...]
    """The conventions that demonstrations follow."""

    def reply(self, turn: Turn) -> Reply:
        """As in the plain world, but each right list scores 1, and demonstrations follow any of theirs."""
        (item,) = super().reply(turn).feedback
        score = item.score if item.score != item.score else float(extract_list(turn.text) in self.task.meta["right"])
        name = self.rng.choice(self.demonstrated)
        revision = f"{name}: {CONVENTIONS[name](self.task.meta['digits'])}" if self.world.with_revision else None
        return Reply(feedback=(replace(item, score=score, revision=revision),))
