"""Dynamic admission: prompts come while they are neither too hard nor too easy for the policy as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fdt.distributed import gather_objects
from fdt.errors import UserError
from fdt.rollout.curricula.base import KEY, Curriculum
from fdt.rollout.place import RolloutPosition
from feedback.types import Episode, Task


@dataclass
class Admission(Curriculum):
    """Draws prompts whose mean score is between `low` and `high`; a share of each rollout goes to the others.

    Every prompt starts as one of the others, and is measured when it is drawn; those that were left alone for longest
    come first, on both sides, so that one that has become easier is found out about. What answers scored is all that is
    known of a prompt: the rates are those of the policy when it was last drawn.
    """

    reads_scores = True

    low: float = 0.1
    """Lowest mean score of a prompt that is drawn as admitted."""
    high: float = 0.9
    """Highest mean score of one."""
    exploration: float = 0.25
    """Share of the places of a rollout, over the run, for prompts that are not admitted; more where too few are."""
    newest: float = 0.5
    """Weight of a prompt's newest mean score in its running mean; 1: only the newest counts."""
    column: str = "dataset"
    """Column that names a prompt's data set, for metrics; it need not be there."""
    rates: dict[str, float] = field(default_factory=dict, init=False)
    """Running mean score by the key of a prompt."""
    drawn: dict[str, int] = field(default_factory=dict, init=False)
    """The number of the rollout that a prompt was last drawn in."""
    rollouts: int = field(default=0, init=False)
    """Rollouts seen so far."""

    def __post_init__(self) -> None:
        shares = (self.low, self.high, self.exploration, self.newest)
        if not all(0 <= share <= 1 for share in shares) or self.low > self.high or self.newest == 0:
            got = f"low {self.low}, high {self.high}, exploration {self.exploration}, newest {self.newest}"
            raise UserError("Admission", got=got, expected="shares from 0 to 1, low at most high, newest > 0", key=KEY)

    def count_rollouts(self, tasks: Sequence[Task], count: int) -> int:
        return -(-len(tasks) // count)

    def choose(self, position: RolloutPosition, tasks: Sequence[Task], count: int) -> list[int]:
        # Longest ago first; among equals by an order of this rollout's own.
        order = position.draw_replacements(len(tasks), ())
        order.sort(key=lambda number: self.drawn.get(tasks[number].key, -1))
        admitted = [number for number in order if self.is_admitted(tasks[number].key)]
        others = [number for number in order if not self.is_admitted(tasks[number].key)]
        number = position.get_number(self.count_rollouts(tasks, count))
        share = self.exploration * count
        # Whole places that add up to the share, where a rollout has room for none.
        places = math.floor((number + 1) * share + 1e-9) - math.floor(number * share + 1e-9)
        places = min(len(others), max(places, count - len(admitted)))
        return others[:places] + admitted[: count - places]

    def is_admitted(self, key: str) -> bool:
        """Whether a prompt was measured, and its running mean score lies within the bounds."""
        return self.low <= self.rates.get(key, math.nan) <= self.high

    def observe(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Moves the running means of the prompts that were answered; every rank must call."""
        metrics = super().observe(episodes)
        own: dict[str, list[float]] = {}
        for episode in episodes:
            own.setdefault(episode.task.key, []).append(episode.score)
        for part in gather_objects(own):
            for key, scores in part.items():
                self._note(key, [score for score in scores if not math.isnan(score)])
        self.rollouts += 1
        admitted = sum(map(self.is_admitted, self.rates))
        return metrics | {"curriculum/measured": float(len(self.rates)), "curriculum/admitted": float(admitted)}

    def _note(self, key: str, scores: list[float]) -> None:
        self.drawn[key] = self.rollouts
        if scores:
            mean = math.fsum(scores) / len(scores)
            before = self.rates.get(key, mean)
            self.rates[key] = before + self.newest * (mean - before)

    def pack(self) -> dict[str, Any]:
        return {"rates": dict(self.rates), "drawn": dict(self.drawn), "rollouts": self.rollouts}

    def unpack(self, packed: dict[str, Any]) -> None:
        self.rates = dict(packed["rates"])
        self.drawn = dict(packed["drawn"])
        self.rollouts = packed["rollouts"]
