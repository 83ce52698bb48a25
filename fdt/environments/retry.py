"""Attempt, critique, attempt again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from fdt.environments.base import Environment, EnvironmentFault, Reply, Session
from fdt.environments.single import build_no_tasks_error
from feedback.graders import FunctionGrader, Grader, as_grader
from feedback.types import Episode, Feedback, Task, Turn, deduplicate


@dataclass(frozen=True)
class RetryWithCritique(Environment):
    """A grader scores each attempt; its critique goes to the policy until an attempt passes or none is left.

    Each piece of feedback belongs to its attempt; the episode scores what its last attempt scored, as `last attempt`.
    An attempt that the grader cannot score ends the episode without a score.
    """

    grader: FunctionGrader | Grader
    """Scores and criticises each attempt; a plain function of an episode serves too, by its dotted path."""
    max_attempts: int = 2
    """Most attempts."""
    pass_score: float = 1.0
    """Score from which an attempt passes and the episode is over."""
    retry_prompt: str = "{critique}\n\nTry again."
    """What the policy reads after an attempt that did not pass."""
    default_critique: str = "That is not right."
    """Takes the place of the critique where the grader wrote none."""
    task_source: Environment | None = None
    """Where tasks come from; null: from `data.file`."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts: got {self.max_attempts}, expected at least 1")

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        if self.task_source is None:
            raise build_no_tasks_error(type(self).__name__)
        return self.task_source.sample_tasks(split, count, seed)

    def start(self, task: Task, seed: int) -> Session:
        return _RetrySession(self, task)

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Grades all attempts in one call, as suits a judge behind an API or a local model."""
        sessions = [cast(_RetrySession, session) for session, _ in turns]  # made by `start`
        attempts = [session.build_attempt(turn) for session, (_, turn) in zip(sessions, turns, strict=True)]
        graded = as_grader(self.grader)(attempts) if attempts else []
        return [session.build_reply(attempt) for session, attempt in zip(sessions, graded, strict=True)]


class _RetrySession(Session):
    def __init__(self, environment: RetryWithCritique, task: Task) -> None:
        self.environment = environment
        self.task = task
        self.messages = task.messages
        self.attempt_count = 0

    def reply(self, turn: Turn) -> Reply:
        (graded,) = as_grader(self.environment.grader)([self.build_attempt(turn)])
        return self.build_reply(graded)

    def build_attempt(self, turn: Turn) -> Episode:
        """One attempt as an episode of its own, for the grader."""
        return Episode(self.task.key, self.task, (turn,))

    def build_reply(self, attempt: Episode) -> Reply:
        """What follows from a graded attempt."""
        # Feedback on "the episode" is feedback on this attempt.
        feedback = tuple(replace(item, turn=self.attempt_count) for item in attempt.feedback)
        self.attempt_count += 1
        score = attempt.score
        is_last = self.attempt_count >= self.environment.max_attempts
        if math.isnan(score) or score >= self.environment.pass_score or is_last:
            return Reply((), (*feedback, Feedback("environment", None, "last attempt", score)))
        critique = "\n".join(deduplicate(item.text for item in attempt.feedback)) or self.environment.default_critique
        text = self.environment.retry_prompt.replace("{critique}", critique)
        return Reply(({"role": "user", "content": text},), feedback, done=False)
