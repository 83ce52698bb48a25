"""reasoning-gym's own verdict on answers to its own tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback.graders.base import build_rule_feedback
from feedback.graders.isolated import get_process, require_library
from feedback.graders.verifier import Verifier, reject_answer, reveal_answer, warn_ungraded
from feedback.types import Feedback, Task


@dataclass(frozen=True)
class GymScore(Verifier):
    """Asks the scorer of the reasoning-gym data set (extra `gym`) that a task came from; it may score between 0 and 1.

    The task's meta holds the generator's entry (question, answer, metadata) as `entry`, and the data set's name within
    the entry's metadata as `source_dataset`, or as `dataset`. A task without them is not judged. Nor is one whose
    scorer evaluates answers as code, as those of countdown or n_queens do: the reason is warned about once. Scorers run
    in a process of their own with a time limit.
    """

    seconds: float = 5.0
    """Longest time of one verdict [s]."""

    def __post_init__(self) -> None:
        require_library("reasoning_gym", "gym")

    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """One `Feedback` named "gym"."""
        dataset, entry = find_origin(task)
        if dataset is None:
            return None
        given = (answer or "").strip()
        verdict = get_process("gym").ask(self.seconds, dataset=dataset, answer=given, entry=entry)
        score = verdict.get("score", -1.0)
        if not 0 <= score <= 1:
            warn_ungraded(verdict.get("ungraded") or f"the scorer of {dataset!r} gave {score}, expected 0 to 1")
            return None
        if score == 1:
            return build_rule_feedback("gym", 1.0)
        return build_rule_feedback("gym", score, self._write_critique(score, given, task))

    def _write_critique(self, score: float, given: str, task: Task) -> str:
        if self.reveal and task.reference:
            return reveal_answer(task)
        return reject_answer(given) if score == 0 else f"It is not quite right: it earns {score:.2f} of 1."


def find_origin(task: Task) -> tuple[str | None, dict[str, Any]]:
    """Which data set of reasoning-gym a task came from, and its entry there; (None, {}) where the task does not say."""
    entry = task.meta.get("entry")
    if not isinstance(entry, dict) or not isinstance(entry.get("answer"), str):
        return None, {}
    facts = entry.get("metadata")
    name = (facts.get("source_dataset") if isinstance(facts, dict) else None) or task.meta.get("dataset")
    return (name, entry) if isinstance(name, str) else (None, {})
