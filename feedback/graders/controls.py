"""Fair rivals of critiques: what a grader says, put on another answer, cut to the bare reference, or with it to imitate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from feedback.graders.base import Grader
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class ShuffledCritique(Grader):
    """Control: the words about each criticised answer go to an answer of another task; scores and revisions stay.

    The next criticised answer of another task gives, so each critique is one that this grader did utter in this rollout.
    Where all criticised answers are of one task, nobody hears anything.
    """

    grader: Grader
    """Who judges."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's feedback with its words moved."""
        judged = self.grader(episodes)
        rows = [number for number, episode in enumerate(judged) if episode.critique is not None]
        moved = {number: self._move_critique(judged, rows, number) for number in rows}
        return [moved.get(number, episode) for number, episode in enumerate(judged)]

    @staticmethod
    def _move_critique(judged: list[Episode], rows: list[int], number: int) -> Episode:
        episode = judged[number]
        place = rows.index(number)
        others = (judged[row] for row in rows[place + 1 :] + rows[:place])
        return _replace_critique(episode, next((e.critique for e in others if e.task.key != episode.task.key), None))


@dataclass(frozen=True)
class ReferenceAsCritique(Grader):
    """Rival: where the grader found words, the task's reference alone stands in their place."""

    grader: Grader
    """Who judges."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's scores, and the reference for a critique. A task without reference keeps its words."""
        return [
            _replace_critique(e, e.task.reference) if e.critique and e.task.reference else e
            for e in self.grader(episodes)
        ]


@dataclass(frozen=True)
class ReferenceAsRevision(Grader):
    """Upper bound: every answer comes back with its task's reference as a revision, to imitate."""

    grader: Grader
    """Who judges."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The grader's feedback and, where the task has a reference, a revision."""
        return [
            episode.add_feedback(Feedback("environment", None, "reference", revision=episode.task.reference))
            if episode.task.reference
            else episode
            for episode in self.grader(episodes)
        ]


def _replace_critique(episode: Episode, words: str | None) -> Episode:
    """The episode with these words in the place of all that was said about it."""
    own = tuple(replace(item, text=None) for item in episode.feedback)
    return replace(episode, feedback=own + ((Feedback("environment", None, "words", text=words),) if words else ()))
