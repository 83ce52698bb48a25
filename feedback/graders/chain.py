"""Several critics, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.graders.base import Critic
from feedback.types import Episode


@dataclass(frozen=True)
class Chain(Critic):
    """Runs critics in order; each sees what those before it said, and all feedback adds up."""

    critics: list[Critic]
    """The critics, in the order in which they judge."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The episodes with every critic's feedback."""
        for critic in self.critics:
            episodes = critic(episodes)
        return episodes
