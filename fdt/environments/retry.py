"""Attempt, critique, attempt again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fdt.environments.base import Environment, EnvironmentFault, Reply, Session
from fdt.environments.single import build_no_tasks_error
from feedback.graders import Grader
from feedback.types import Episode, Feedback, Task, Turn, deduplicate


@dataclass(frozen=True)
class RetryWithCritique(Environment):
    """A grader judges each attempt; its words come back to the policy until the attempt is good or none is left.

    Each judgement belongs to its attempt; the episode scores what its last attempt scored. An attempt that the grader
    cannot judge ends the episode without a score.
    """

    grader: Grader
    """Judges each attempt."""
    attempts: int = 2
    """Most attempts."""
    good: float = 1.0
    """Score from which an attempt is good and the episode over."""
    again: str = "{critique}\n\nTry again."
    """What the policy reads after a bad attempt."""
    silent: str = "That is not right."
    """Stands for the critique where the grader has no words."""
    deals: Environment | None = None
    """Where tasks come from; null: from `data.file`."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts: got {self.attempts}, expected at least 1")

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        if self.deals is None:
            raise build_no_tasks_error(type(self).__name__)
        return self.deals.sample_tasks(split, count, seed)

    def start(self, task: Task, seed: int) -> Session:
        return _RetrySession(self, task)

    def reply_all(self, said: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Judges all attempts in one call, as a judge behind an API or a local model wants it."""
        tried = [Episode(session.task.key, session.task, (turn,)) for session, turn in said]
        judged = self.grader(tried) if tried else []
        return [session.build_reply(episode) for (session, _), episode in zip(said, judged, strict=True)]


class _RetrySession(Session):
    def __init__(self, rules: RetryWithCritique, task: Task) -> None:
        self.rules, self.task, self.messages, self.done = rules, task, task.messages, 0

    def reply(self, turn: Turn) -> Reply:
        (judged,) = self.rules.grader([Episode(self.task.key, self.task, (turn,))])
        return self.build_reply(judged)

    def build_reply(self, attempt: Episode) -> Reply:
        """What follows from a judged attempt."""
        # What was said about "the episode" was said about this attempt.
        said = tuple(replace(item, turn=self.done) for item in attempt.feedback)
        self.done += 1
        score = attempt.score
        if math.isnan(score) or score >= self.rules.good or self.done >= self.rules.attempts:
            return Reply((), (*said, Feedback("environment", None, "last attempt", score)))
        critique = "\n".join(deduplicate(item.text for item in attempt.feedback)) or self.rules.silent
        text = self.rules.again.replace("{critique}", critique)
        return Reply(({"role": "user", "content": text},), said, done=False)
