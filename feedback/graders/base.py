"""The grader: anything that adds feedback to episodes. It estimates no value, as a critic beside an actor would."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from feedback.returns import check_episode, check_same_episodes, refuse
from feedback.types import Episode, Feedback, deduplicate

FORMAT = "format"
"""Name of the score that says whether an answer is well-formed: 1 or 0. Rewards read it, `Episode.score` does not."""


class Grader(ABC):
    """Judges episodes: a verifier, a judge model, a reward model.

    A plain function of one episode is a grader too, see `FunctionGrader`.
    """

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


def run_grader(grader: Grader, episodes: Sequence[Episode]) -> list[Episode]:
    """What a grader returns for the episodes, checked by `check_graded`."""
    episodes = list(episodes)
    return check_graded(episodes, grader(episodes), grader)


def check_graded(before: Sequence[Episode], after: Any, grader: Grader) -> list[Episode]:
    """What a grader returned, where it is what a grader must return.

    Args:
        before: the episodes that it was given.
        after: what it returned.
        grader: whom to name in the message.

    Raises:
        DataError: where that is no list of the same episodes in the same order, or a score is no number from 0 to 1.
    """

    if isinstance(after, list | tuple) and len(after) != len(before):
        got = f"{len(after)} episodes for the {len(before)} that it was given"
        remedy = "Return what cannot be judged as it is; `episode.add_feedback` adds a judgement."
        raise refuse(grader, got, "one for each, in the same order", remedy)
    found = check_same_episodes(grader, before, after)
    for episode in found:
        check_episode(grader, episode)
    return found


def get_added_feedback(before: Episode, after: Episode) -> tuple[Feedback, ...]:
    """The feedback that a grader added or changed."""
    known = {id(item) for item in before.feedback}
    return tuple(item for item in after.feedback if id(item) not in known)


def build_rule_feedback(name: str, score: float, text: str | None = None, turn: int | None = None) -> Feedback:
    """What a rule found: feedback from the environment, which no person or model wrote."""
    return Feedback("environment", None, name, score, text, turn)


def update_format_score(episode: Episode, fault: str | None, turn: int | None = None) -> Episode:
    """The episode with its format score for `turn` (None: the whole) brought up to date: 1, or 0 with the fault named.

    There is one, however many graders look: it is 1 only where none of them found a fault.
    """
    earlier = [item for item in episode.feedback if _is_format_score(item, turn)]
    lowest = min([item.score for item in earlier] + [1.0 if fault is None else 0.0])
    text = "\n".join(deduplicate([item.text for item in earlier] + [fault])) or None
    others = tuple(item for item in episode.feedback if not _is_format_score(item, turn))
    return replace(episode, feedback=(*others, build_rule_feedback(FORMAT, lowest, text, turn)))


def _is_format_score(item: Feedback, turn: int | None) -> bool:
    return (item.name, item.source, item.turn) == (FORMAT, "environment", turn) and not math.isnan(item.score)
