"""One training row as ids: what was read, and what the policy answers for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress


@dataclass(frozen=True)
class Row:
    """One training row: its ids, and which of them the policy answers for."""

    ids: list[int] = field(default_factory=list)
    target: list[bool] = field(default_factory=list)
    """Of each id, whether it is a target."""
    steps: list[int] = field(default_factory=list)
    """Of each target id, in order, the turn of the episode that it belongs to, from 0."""
    log_probs: list[float] = field(default_factory=list)
    """Of each target id, what the engine gave it when it was drawn (nats); NaN where nobody says."""
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where each of its turns begins and ends among the ids."""

    @classmethod
    def of(cls, context: Sequence[int], target: Sequence[int], step: int = 0) -> Row:
        """A context, and one turn that answers it."""
        row = cls()
        row.read(context)
        row.say(target, [True] * len(target), [math.nan] * len(target), step)
        return row

    def read(self, ids: Sequence[int]) -> None:
        """Appends ids that the policy reads."""
        self.ids.extend(ids)
        self.target.extend([False] * len(ids))

    def say(self, ids: Sequence[int], chosen: Sequence[bool], log_probs: Sequence[float], step: int) -> None:
        """Appends a turn of the policy; ids that it did not choose are no targets."""
        self.spans[step] = (len(self.ids), len(self.ids) + len(ids))
        self.ids.extend(ids)
        self.target.extend(chosen)
        self.steps.extend([step] * sum(chosen))
        self.log_probs.extend(compress(log_probs, chosen))

    def before(self, step: int) -> list[int]:
        """What was read and written before a turn."""
        return self.ids[: self.spans[step][0]]
