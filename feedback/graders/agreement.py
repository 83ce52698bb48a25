"""Do the answers to one question agree? A vote among them needs no reference (self-consistency, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from feedback.graders.base import Grader, build_rule_feedback
from feedback.graders.number import find_last_number
from feedback.types import Episode


@dataclass(frozen=True)
class Agreement(Grader):
    """Scores an answer by the share of the other answers to its task that end in the same number.

    The score is named "agreement". An answer without a number votes for nothing and is not judged; nor is one that has
    no others to agree with. All answers of a task must come in one call.
    """

    least: int = 1
    """Other answers with a number that there must be."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` to each answer with a number, where enough others have one."""
        numbers = [find_last_number(episode.response) for episode in episodes]
        votes: dict[str, Counter[Decimal]] = {}
        for episode, number in zip(episodes, numbers, strict=True):
            if number is not None:
                votes.setdefault(episode.task.key, Counter())[number] += 1
        return [
            self._grade(episode, number, votes.get(episode.task.key, Counter()))
            for episode, number in zip(episodes, numbers, strict=True)
        ]

    def _grade(self, episode: Episode, number: Decimal | None, votes: Counter[Decimal]) -> Episode:
        others = votes.total() - 1
        if number is None or others < max(1, self.least):
            return episode
        return episode.add_feedback(build_rule_feedback("agreement", (votes[number] - 1) / others))
