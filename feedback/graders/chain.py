"""Several graders, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.graders.base import Grader, run_grader
from feedback.graders.function import FunctionGrader, as_grader
from feedback.types import Episode


@dataclass(frozen=True)
class GraderChain(Grader):
    """Runs graders in order; each sees the feedback of those before it, and all of it adds up."""

    graders: list[FunctionGrader | Grader]
    """The graders, or functions of an episode, in the order in which they judge."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The episodes with every grader's feedback."""
        for grader in self.graders:
            episodes = run_grader(as_grader(grader), episodes)
        return episodes
