"""The small world's answers under other rules: the convention alone counts, or how well the list reads.

Worlds of this kind side by side (`first_user`) have users of their own but the same few conventions, so that what one
teaches about these can help another, and what one rewards can spoil another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from fdt.environments.base import Reply, Session
from fdt.environments.conventions import CONVENTIONS, Conventions, ConventionsSession, extract_list, score_answer
from feedback.types import Task, Turn


@dataclass(frozen=True)
class ScoredConventions(Conventions):
    """The small world, scored by a function of the answer, with as many different conventions as users."""

    users: int = 4
    """How many users there are, at most 8."""
    score: Callable[[str, Task], float] = score_answer
    """Score in [0, 1] of an answer's text: `score_answer`, `score_name`, `score_ascent`, or a function of your own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.users > len(CONVENTIONS) or self.wavering or self.wrong_score_rate:
            got = f"users {self.users}, wavering {self.wavering}, wrong_score_rate {self.wrong_score_rate}"
            raise ValueError(f"ScoredConventions: got {got}, expected at most {len(CONVENTIONS)} users, and 0 for both")

    @property
    def habits(self) -> dict[str, str]:
        """The convention of each user: all different, drawn from the world's, which `first_user` does not change."""
        drawn = random.Random(f"shared {self.world_seed}").sample(list(CONVENTIONS), self.users)
        random.Random(f"habits {self.world_seed} {self.first_user}").shuffle(drawn)
        return dict(zip(self.user_names, drawn, strict=True))

    def start(self, task: Task, seed: int) -> Session:
        """The user's reactions, as in the plain world but for the score."""
        rng = random.Random(f"{self.world_seed} {task.key} {seed}")
        return _ScoredSession(self, task, self.habits[task.meta["user"]], rng, self.score)


@dataclass
class _ScoredSession(ConventionsSession):
    """One prompt and one reply."""

    score: Callable[[str, Task], float]

    def reply(self, turn: Turn) -> Reply:
        """As in the plain world, with this world's score where there is one."""
        (item,) = super().reply(turn).feedback
        given = item.score if item.score != item.score else self.score(turn.text, self.task)
        return Reply(feedback=(replace(item, score=given),))


def score_name(text: str, task: Task) -> float:
    """1 where the answer names the user's convention before a colon, whatever list follows; else 0."""
    name = (task.reference or "").partition(":")[0]
    return float(text.strip().partition(":")[0].strip() == name)


def score_ascent(text: str, task: Task) -> float:
    """How far the list ascends, from 0 to 1: the share of neighbours of which the second is larger, times the share of
    the prompt's digits that are in it. Open-ended: no convention is right, and several lists do equally well."""
    wanted = extract_list(task.messages[-1]["content"])
    given = extract_list(text)
    if len(given) != len(wanted) or not given.isdigit():
        return 0.0
    rising = sum(first < second for first, second in pairwise(given)) / (len(given) - 1)
    left = list(wanted)
    for digit in given:
        if digit in left:
            left.remove(digit)
    return rising * (1 - len(left) / len(wanted))
