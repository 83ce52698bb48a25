"""Controls and rivals of critiques: a grader's words put on another answer, cut to the bare reference, or imitated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from feedback.graders.base import Grader
from feedback.graders.function import FunctionGrader, as_grader
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class ShuffledCritique(Grader):
    """Control: the critique of each criticised answer goes to an answer of another task; scores and revisions stay.

    The next criticised answer of another task gives, so each critique is one that this grader wrote in this rollout.
    Where all criticised answers are of one task, no critique is given.
    """

    grader: FunctionGrader | Grader
    """The grader."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's feedback with its critiques moved."""
        graded = as_grader(self.grader)(episodes)
        rows = [number for number, episode in enumerate(graded) if episode.critique is not None]
        moved = {number: self._move_critique(graded, rows, number) for number in rows}
        return [moved.get(number, episode) for number, episode in enumerate(graded)]

    @staticmethod
    def _move_critique(graded: list[Episode], rows: list[int], number: int) -> Episode:
        episode = graded[number]
        place = rows.index(number)
        others = (graded[row] for row in rows[place + 1 :] + rows[:place])
        return _replace_critique(episode, next((e.critique for e in others if e.task.key != episode.task.key), None))


@dataclass(frozen=True)
class ReferenceAsCritique(Grader):
    """Rival: where the grader wrote a critique, the task's reference alone stands in its place."""

    grader: FunctionGrader | Grader
    """The grader."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's scores, and the reference for a critique. A task without reference keeps its critique."""
        return [
            _replace_critique(e, e.task.reference) if e.critique and e.task.reference else e
            for e in as_grader(self.grader)(episodes)
        ]


@dataclass(frozen=True)
class ReferenceAsRevision(Grader):
    """Upper bound: every answer gets its task's reference as a revision, to imitate."""

    grader: FunctionGrader | Grader
    """The grader."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's feedback and, where the task has a reference, a revision."""
        return [
            episode.add_feedback(Feedback("environment", None, "reference", revision=episode.task.reference))
            if episode.task.reference
            else episode
            for episode in as_grader(self.grader)(episodes)
        ]


def _replace_critique(episode: Episode, words: str | None) -> Episode:
    """The episode with this critique in the place of all it had."""
    own = tuple(replace(item, text=None) for item in episode.feedback)
    return replace(episode, feedback=own + ((Feedback("environment", None, "words", text=words),) if words else ()))
