"""What the policy acts in: an environment samples tasks, and its sessions answer the policy's turns."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fdt.errors import UserError
from feedback.types import Feedback, Message, Task, Turn

SPLITS = ("train", "heldout", "test")
SHARES = (0.8, 0.9, 1.0)
"""Where each split ends on the scale from 0 to 1 on which every task has its place."""


class EnvironmentFault(Exception):
    """A session broke through no fault of the policy: the episode is run again or training stops; it never scores 0."""


@dataclass(frozen=True)
class Reply:
    """What a session answers to one assistant turn."""

    messages: tuple[Message, ...] = ()
    """Messages that the policy reads before its next turn; empty where the episode is over."""
    feedback: tuple[Feedback, ...] = ()
    """Feedback on this turn, or on the whole episode where its `turn` is None."""
    done: bool = True
    """Whether the episode is over."""


class _Renamed:
    """Refuses a class that overrides what version 0.1 called a method, since nothing would ever call it."""

    # Without an annotation, which the command line would look up in the module of every subclass.
    former = dict[str, str]()
    """Names of version 0.1, and what they are called now."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in cls.former.items():
            if callable(cls.__dict__.get(old)) and new not in cls.__dict__ and _is_first(cls, new):
                raise UserError(
                    f"{cls.__module__}.{cls.__qualname__} has a method of version 0.1",
                    got=old,
                    expected=new,
                    remedy="see docs/migration.md, which lists all new names",
                )


def _is_first(kind: type, name: str) -> bool:
    """Whether no class overrides a method of the one that declares it."""
    return sum(name in each.__dict__ for each in kind.__mro__) == 1


class Session(_Renamed, ABC):
    """One episode: its prompt, then one reply to each assistant turn."""

    former = {"cut": "truncate"}

    messages: tuple[Message, ...]
    """The prompt."""

    @abstractmethod
    def reply(self, turn: Turn) -> Reply:
        """Answers the policy's turn.

        Raises:
            EnvironmentFault: where the session itself broke; the episode is then run again or training stops.
        """

    def truncate(self) -> tuple[Feedback, ...]:
        """Feedback on an episode that ran out of turns or of context before it was over; none unless overridden."""
        return ()

    def close(self) -> None:
        """Frees what the session holds; called once, whether the episode ended, was truncated or broke."""


class Environment(_Renamed, ABC):
    """Samples tasks and runs an episode of each."""

    former = {"tasks": "sample_tasks", "replies": "reply_all"}
    scores_episodes: bool = True
    """Whether its sessions score the episodes; where they do not, a grader must."""

    @abstractmethod
    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        """
        Args:
            split: train, heldout or test; tasks of different splits are disjoint for every seed.
            count: tasks wanted.
            seed: of the draw.

        Returns:
            ``count`` tasks with keys of their own, the same ones for equal arguments; fewer where no more exist.
        """

    @abstractmethod
    def start(self, task: Task, seed: int) -> Session:
        """A session of its own for one episode of ``task``; ``seed`` fixes all that is random in it.

        Raises:
            EnvironmentFault: where no session could be had.
        """

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Answers the turns of many sessions, a fault in the place of what broke; one by one unless overridden."""
        return [try_reply(session, turn) for session, turn in turns]


def try_reply(session: Session, turn: Turn) -> Reply | EnvironmentFault:
    """The session's reply, or the fault that kept it from replying; errors of the operating system are faults too."""
    try:
        return session.reply(turn)
    except EnvironmentFault as fault:
        return fault
    except OSError as fault:
        return EnvironmentFault(f"{type(fault).__name__}: {fault}")


def select_split(tasks: Iterable[Task], split: str, count: int) -> list[Task]:
    """The first ``count`` distinct tasks that belong to a split; where a task belongs is a function of its key alone.

    Raises:
        UserError: no such split.
    """
    if split not in SPLITS:
        raise UserError("split", got=split, expected=", ".join(SPLITS))
    found: dict[str, Task] = {}
    for task in tasks if count > 0 else ():
        if assign_split(task.key) == split:
            found.setdefault(task.key, task)
        if len(found) == count:
            break
    return list(found.values())


def assign_split(key: str) -> str:
    """The split that a task of this name belongs to, in every process and for every seed."""
    place = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12
    return next(split for split, end in zip(SPLITS, SHARES, strict=True) if place < end)


def import_required(module: str, package: str, install: str = "'feedback-distillation-trainer[gym]'") -> Any:
    """A module of a package that an environment needs; ``install`` is pip's argument, by default the extra `gym`.

    Raises:
        UserError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise UserError(
            f"this environment needs {package}: {missing}", key="data.environment", remedy=f"run: pip install {install}"
        ) from missing
