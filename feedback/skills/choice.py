"""Which attempts are examined: those of categories that fail, the worst first, every category in its turn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from feedback.skills.types import Attempt


def compute_success(attempts: Sequence[Attempt]) -> dict[str | None, float]:
    """The share of each category's attempts that were won."""
    counts: dict[str | None, list[int]] = {}
    for attempt in attempts:
        counts.setdefault(attempt.category, []).append(attempt.won)
    return {category: sum(won) / len(won) for category, won in counts.items()}


def choose_failures(attempts: Sequence[Attempt], below: float, most: int) -> list[Attempt]:
    """Lost attempts of the categories with a share of wins strictly below `below`, at most `most`.

    The categories take turns, the least successful first, and each gives its lowest score first (SkillRL, arXiv
    2602.08234: stratified, round robin, at most ten).
    """
    success = compute_success(attempts)
    low = sorted((category for category, share in success.items() if share < below), key=lambda name: success[name])
    lost = [[a for a in attempts if a.category == category and not a.won] for category in low]
    return take_turns([sorted(group, key=_get_score) for group in lost], most)


def choose_outcomes(attempts: Sequence[Attempt], most: int) -> list[Attempt]:
    """Lost and won attempts in turn, those of each category in its turn, at most `most`: the worst loss first, and the
    best win."""
    groups: dict[tuple[bool, str | None], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.won, attempt.category), []).append(attempt)
    ordered = [sorted(group, key=_get_score, reverse=won) for (won, _), group in groups.items()]
    lost = take_turns([group for group in ordered if not group[0].won], most)
    won = take_turns([group for group in ordered if group[0].won], most)
    return take_turns([lost, won], most)


def take_turns(groups: Sequence[Sequence[Attempt]], most: int) -> list[Attempt]:
    """One of each group in turn until none is left, at most `most`."""
    longest = max(map(len, groups), default=0)
    return [group[place] for place in range(longest) for group in groups if place < len(group)][:most]


def _get_score(attempt: Attempt) -> float:
    score = attempt.episode.score
    return 0.0 if math.isnan(score) else score
