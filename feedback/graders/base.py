"""The grader: anything that adds feedback to episodes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

from feedback.types import Episode, Feedback, deduplicate

FORMAT = "format"
"""Name of the mark that says whether an answer is well-formed: 1 or 0. Credits read it, `Episode.score` does not."""


class Grader(ABC):
    """Judges episodes: a verifier, a judge model, a reward model."""

    @abstractmethod
    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The same episodes in the same order, each with this grader's feedback added.

        What cannot be judged is left as it is or gets a NaN score, never 0.
        """


class RuleGrader(Grader):
    """A grader that judges each episode by itself, from text alone."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The same episodes in the same order, judged one by one."""
        return [self.grade(episode) for episode in episodes]

    @abstractmethod
    def grade(self, episode: Episode) -> Episode:
        """The episode with this rule's feedback added, or as it is where the rule has nothing to go by."""


def build_rule_feedback(name: str, score: float, text: str | None = None, turn: int | None = None) -> Feedback:
    """What a rule says: feedback from the environment, which no person or model wrote."""
    return Feedback("environment", None, name, score, text, turn)


def update_format_score(episode: Episode, fault: str | None, turn: int | None = None) -> Episode:
    """The episode with its format mark for `turn` (None: the whole) brought up to date: 1, or 0 with the fault named.

    There is one mark, however many graders look: it is 1 only where none of them found a fault.
    """
    earlier = [item for item in episode.feedback if _is_format_score(item, turn)]
    lowest = min([item.score for item in earlier] + [1.0 if fault is None else 0.0])
    text = "\n".join(deduplicate([item.text for item in earlier] + [fault])) or None
    others = tuple(item for item in episode.feedback if not _is_format_score(item, turn))
    return replace(episode, feedback=(*others, build_rule_feedback(FORMAT, lowest, text, turn)))


def _is_format_score(item: Feedback, turn: int | None) -> bool:
    return (item.name, item.source, item.turn) == (FORMAT, "environment", turn) and not math.isnan(item.score)
