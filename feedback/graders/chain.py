"""Several graders, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.graders.base import Grader
from feedback.types import Episode


@dataclass(frozen=True)
class GraderChain(Grader):
    """Runs graders in order; each sees what those before it said, and all feedback adds up."""

    graders: list[Grader]
    """The graders, in the order in which they judge."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The episodes with every grader's feedback."""
        for grader in self.graders:
            episodes = grader(episodes)
        return episodes
