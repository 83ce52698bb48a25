"""Who writes the drafts of a rewrite: the policy that is trained (`fdt.drafters`), or another model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from feedback.types import Message


class Drafter(ABC):
    """Answers prompts."""

    @abstractmethod
    def __call__(self, prompts: Sequence[list[Message]], each: int, seed: int) -> list[list[str]]:
        """Up to `each` drafts for every prompt, in order; an empty list where no draft came.

        `seed` makes the drafts repeatable where the model allows it.
        """
