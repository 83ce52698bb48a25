"""The critic: anything that adds feedback to episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from feedback.types import Episode


class Critic(ABC):
    """Judges episodes: a verifier, a judge model, a reward model."""

    @abstractmethod
    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """The same episodes in the same order, each with this critic's feedback added.

        What cannot be judged is left as it is or gets a NaN score, never 0.
        """
