"""How diverse a policy's answers are while it trains: the answers to each task of a step, compared with each other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from feedback.diversity import compute_unique_share, distinct_n, extract_actions, extract_final_answer
from feedback.types import Episode

NAMES = ("unique_share", "distinct_2", "solutions", "wrong_unique")


def compute_diversity(episodes: Sequence[Episode]) -> dict[str, list[float]]:
    """For each of `NAMES` its values, one a task that has two answers or more; an episode counts once, by its id.

    - unique_share: share of different action sequences among a task's episodes.
    - distinct_2: different word pairs over all word pairs of its answers.
    - solutions: different final answers; an answer without one counts by its words.
    - wrong_unique: the same among answers that score below 1, over their number, for tasks with two or more of them. It
      stays high where a policy narrows to what is right, and falls where it narrows to a mistake.
    """
    groups: dict[str, dict[str, Episode]] = defaultdict(dict)
    for episode in episodes:
        groups[episode.task.key][episode.id] = episode
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for group in (list(own.values()) for own in groups.values() if len(own) > 1):
        wrong = [extract_solution(episode) for episode in group if episode.score < 1]
        found["unique_share"].append(compute_unique_share([extract_actions(episode) for episode in group]))
        found["distinct_2"].append(distinct_n([episode.response for episode in group], 2))
        found["solutions"].append(float(len({extract_solution(episode) for episode in group})))
        found["wrong_unique"] += [compute_unique_share(wrong)] if len(wrong) > 1 else []
    return {name: [value for value in values if not math.isnan(value)] for name, values in found.items()}


def extract_solution(episode: Episode) -> str:
    """An episode's final answer, or its words without case and extra blanks."""
    answer = extract_final_answer(episode.response)
    return " ".join(episode.response.lower().split()) if answer is None else answer
