"""Several annotators' scores of one thing become one score, by a stated rule; how far they differ is counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from feedback.faults import DataError, format_value
from feedback.types import Episode, Feedback

Key = tuple[str, str, int | None]
"""Source, name and turn of a score: a person's and a model's are not one thing."""


def _mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


def _majority(scores: list[float]) -> float:
    """The score given most often; the mean of those that tie."""
    counts = Counter(scores)
    most = max(counts.values())
    return _mean([score for score, count in counts.items() if count == most])


def _take_first(scores: list[float]) -> float:
    return scores[0]


RULES: dict[str, Callable[[list[float]], float] | None] = {
    "mean": _mean,
    "majority": _majority,
    "first": _take_first,
    "each": None,
}
"""How several scores of one name and turn become one; `each` leaves them as they are."""


@dataclass(frozen=True)
class Disagreement:
    """How far the annotators of the same things differ."""

    num_multiple: int
    """Things (a name of one turn of one episode, by one kind of judge) that were scored more than once."""
    num_unequal: int
    """Those of them whose scores are not all equal."""
    spread: float
    """Mean of highest minus lowest score over `num_multiple`, in [0, 1]; NaN where there is none."""

    def __str__(self) -> str:
        differ = f"{self.num_unequal} of {self.num_multiple} scored several times differ"
        return f"{differ}, on average by {self.spread:.2f} of the scale"


def check_rule(rule: str) -> None:
    """Raises `DataError` for an unknown rule."""
    if rule not in RULES:
        raise DataError("aggregate", None, "rule", format_value(rule), "one of " + ", ".join(RULES))


def aggregate_scores(episodes: list[Episode], rule: str = "mean") -> list[Episode]:
    """The episodes with one score for each kind of judge, name and turn; words and corrections all stay.

    The first of the items taken together gets the score, and loses its annotator unless the rule is `first`; the others
    keep what else they say. Raises `DataError` for an unknown rule.
    """
    check_rule(rule)
    combine = RULES[rule]
    return episodes if combine is None else [_merge_scores(episode, combine, rule) for episode in episodes]


def measure_disagreement(episodes: list[Episode]) -> Disagreement:
    """How far annotators differ, over all that was scored more than once."""
    spreads = [
        max(scores) - min(scores)
        for episode in episodes
        for scores in _collect_scores(episode).values()
        if len(scores) > 1
    ]
    mean = sum(spreads) / len(spreads) if spreads else math.nan
    return Disagreement(len(spreads), sum(spread > 0 for spread in spreads), mean)


def _get_key(item: Feedback) -> Key:
    return item.source, item.name, item.turn


def _collect_scores(episode: Episode) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = {}
    for item in episode.feedback:
        if not math.isnan(item.score):
            found.setdefault(_get_key(item), []).append(item.score)
    return found


def _merge_scores(episode: Episode, combine: Callable[[list[float]], float], rule: str) -> Episode:
    if len(episode.feedback) < 2:
        return episode
    several = {key: scores for key, scores in _collect_scores(episode).items() if len(scores) > 1}
    if not several:
        return episode
    kept: list[Feedback] = []
    for item in episode.feedback:
        scores = None if math.isnan(item.score) else several.get(_get_key(item))
        if scores is None:
            kept.append(item)
        elif scores:
            kept += _merge_into_first(item, combine(scores), rule)
            scores.clear()  # given once; the others lose their number
        else:
            kept += _drop_score(item)
    return replace(episode, feedback=tuple(kept))


def _merge_into_first(item: Feedback, score: float, rule: str) -> list[Feedback]:
    if rule == "first":
        return [item]
    whole = Feedback(item.source, None, item.name, score, None, item.turn, None, item.scale)
    return [whole, *_drop_score(item)]


def _drop_score(item: Feedback) -> list[Feedback]:
    has_words = item.text is not None or item.revision is not None
    return [replace(item, score=math.nan)] if has_words else []


def add_win_rates(episodes: list[Episode]) -> list[Episode]:
    """Adds a score `win_rate` to the answers that were compared: the mean share of their comparisons that they won.

    A comparison with strength s gives s to the episode that holds it and 1 − s to the other. Tasks whose compared
    answers all have scores of their own get none.
    """
    shares: dict[str, list[float]] = {}
    for episode in episodes:
        for item in episode.preferences:
            shares.setdefault(episode.id, []).append(item.strength)
            shares.setdefault(item.other_id, []).append(1 - item.strength)
    if not shares:
        return episodes
    unscored = {episode.task.key for episode in episodes if episode.id in shares and math.isnan(episode.score)}
    return [
        _add_win_rate(episode, shares[episode.id]) if episode.id in shares and episode.task.key in unscored else episode
        for episode in episodes
    ]


def _add_win_rate(episode: Episode, shares: list[float]) -> Episode:
    source = episode.feedback[0].source if episode.feedback else "human"
    return episode.add_feedback(Feedback(source, None, "win_rate", _mean(shares)))
