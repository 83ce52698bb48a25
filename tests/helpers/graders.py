"""A grader for runs of a model that knows nothing: whatever is longer is better, and everything is criticised."""

from dataclasses import dataclass

from feedback.graders import Grader
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class Longer(Grader):
    """Scores the number of different characters."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Each with a score in [0, 1] and words about it."""
        return [
            episode.add_feedback(
                Feedback(
                    "environment",
                    score=min(1.0, len(set(episode.response)) / 16),
                    text="It could be richer in letters, digits and signs.",
                )
            )
            for episode in episodes
        ]
