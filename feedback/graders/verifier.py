"""What all verifiers share: find the answer, compare it with the task's reference, and write what is wrong."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass

from feedback.graders.base import RuleGrader
from feedback.graders.extract import Extract, extract_response
from feedback.types import Episode, Feedback, Task

SHOWN = 80
"""Characters of an answer that a critique repeats."""


@dataclass(frozen=True)
class Verifier(RuleGrader):
    """A rule that compares the answer with the task's reference."""

    reveal: bool = True
    """True: the critique states the right answer. False: it only says what is wrong."""
    extract: Extract = extract_response
    """Which part of the response is the answer: feedback.graders.extract_response (the whole one), extract_boxed,
    TagExtractor, RegexExtractor, or a function of your own."""

    def grade(self, episode: Episode) -> Episode:
        """Adds the verdict, if there is one."""
        try:
            answer = self.extract(episode.response)
        except TimeoutError as slow:
            warn_ungraded(str(slow))
            return episode
        verdict = self.compare(answer, episode.task)
        return episode if verdict is None else episode.add_feedback(verdict)

    @abstractmethod
    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """The verdict on `answer` (None: the response holds none); None where there is nothing to compare with."""


def reveal_answer(task: Task) -> str:
    """The critique that states the right answer."""
    expression = task.meta.get("expression")
    asked = expression if isinstance(expression, str) and expression else "the right answer"
    return f"It is wrong: {asked} is {(task.reference or '').strip()}."


def reject_answer(answer: str | None) -> str:
    """The critique that keeps the right answer back."""
    if answer is None or not answer.strip():
        return "It is wrong: it holds no answer."
    return f"It is wrong: {shorten_text(answer.strip())} is not the right answer."


def shorten_text(text: str) -> str:
    """`text` as a critique repeats it: one line, cut to `SHOWN` characters."""
    text = " ".join(text[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def warn_ungraded(reason: str) -> None:
    """Warns that something was left without a score."""
    warnings.warn(f"not judged: {reason}.", stacklevel=3)
