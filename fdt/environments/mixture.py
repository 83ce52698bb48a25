"""Several environments in one run, each a data set of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fdt.environments.base import Environment, EnvironmentFault, Reply, Session
from fdt.errors import UserError
from feedback.types import Feedback, Task, Turn


@dataclass(frozen=True)
class Mixture(Environment):
    """Tasks of several environments in equal shares; each names its environment, for `data.source.curriculum` and for
    held-out scores of each."""

    environments: dict[str, Environment] = field(default_factory=dict)
    """The environments, under names of your choice. Either all score their episodes, or none does."""
    column: str = "dataset"
    """Under which column a task has that name."""

    def __post_init__(self) -> None:
        scoring = {environment.scores_episodes for environment in self.environments.values()}
        if len(scoring) != 1:
            raise UserError(
                "data.environment.environments",
                got="none" if not scoring else "some that score their episodes and some that leave it to a grader",
                expected="at least one; either all score their episodes, or none does",
            )
        object.__setattr__(self, "scores_episodes", scoring.pop())

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        """An equal share from each, the first ones one more where it does not divide; their turns alternate."""
        shares = []
        for place, (name, environment) in enumerate(self.environments.items()):
            size = count // len(self.environments) + (place < count % len(self.environments))
            tasks = environment.sample_tasks(split, size, seed)
            shares.append([replace(t, key=f"{name}/{t.key}", meta=t.meta | {self.column: name}) for t in tasks])
        longest = max(map(len, shares))
        return [share[n] for n in range(longest) for share in shares if n < len(share)]

    def start(self, task: Task, seed: int) -> Session:
        return _MixedSession(task.meta[self.column], self.environments[task.meta[self.column]].start(task, seed))

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Each environment answers its own turns together."""
        found: dict[int, Reply | EnvironmentFault] = {}
        for name, environment in self.environments.items():
            own = {
                n: pair for n, pair in enumerate(turns) if isinstance(pair[0], _MixedSession) and pair[0].name == name
            }
            inner = [(session.inner, turn) for session, turn in own.values() if isinstance(session, _MixedSession)]
            found |= dict(zip(own, environment.reply_all(inner), strict=True)) if own else {}
        return [found[number] for number in range(len(turns))]


class _MixedSession(Session):
    """A session of one of the environments."""

    def __init__(self, name: str, inner: Session) -> None:
        self.name = name
        self.inner = inner
        self.messages = inner.messages

    def reply(self, turn: Turn) -> Reply:
        return self.inner.reply(turn)

    def truncate(self) -> tuple[Feedback, ...]:
        return self.inner.truncate()

    def close(self) -> None:
        self.inner.close()
