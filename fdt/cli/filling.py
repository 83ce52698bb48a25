"""A grader's feedback is added to an episode where the episode has nothing in its place."""

from __future__ import annotations

import math
from dataclasses import replace

from feedback.graders import Grader, PairwiseJudge, PrincipleJudge, Reviser, get_added_feedback, run_grader
from feedback.graders.judges.revise import needs_revision
from feedback.types import Episode, Feedback


def can_add_feedback(grader: Grader, episode: Episode) -> bool:
    """Whether the grader could add something that the episode does not have."""
    if isinstance(grader, Reviser):
        return needs_revision(episode)
    return math.isnan(episode.score) or episode.critique is None


def select_rows(grader: Grader, episodes: list[Episode]) -> list[int]:
    """The rows to ask about: those that lack something, and for a grader that compares, the others of their tasks."""
    rows = [row for row, episode in enumerate(episodes) if can_add_feedback(grader, episode)]
    if not isinstance(grader, PairwiseJudge | PrincipleJudge):
        return rows
    tasks = {episodes[row].task.key for row in rows}
    return [row for row, episode in enumerate(episodes) if episode.task.key in tasks]


def fill_feedback(grader: Grader, episodes: list[Episode]) -> list[Episode]:
    """The episodes with the grader's feedback, as far as they had nothing in its place."""
    rows = select_rows(grader, episodes)
    found = list(episodes)
    graded = run_grader(grader, [episodes[row] for row in rows])
    for row, episode in zip(rows, graded, strict=True):
        if can_add_feedback(grader, episodes[row]):
            found[row] = merge_feedback(episodes[row], episode)
    return found


def merge_feedback(before: Episode, after: Episode) -> Episode:
    """The episode with the new feedback that it lacked; a judge's revision joins what it wrote before."""
    items = list(before.feedback)
    for item in get_added_feedback(before, after):
        item = replace(
            item,
            score=item.score if math.isnan(before.score) else math.nan,
            text=item.text if before.critique is None else None,
            revision=item.revision if before.revision is None else None,
        )
        if math.isnan(item.score) and item.text is None and item.revision is None:
            continue
        own = next((n for n, other in enumerate(items) if is_own_revision(other, item)), None)
        if own is None:
            items.append(item)
        else:
            items[own] = replace(items[own], revision=item.revision)
    return replace(after, feedback=tuple(items))


def is_own_revision(one: Feedback, other: Feedback) -> bool:
    """Whether a revision belongs to an earlier item of the same judge."""
    revises = other.revision is not None and other.text is None and math.isnan(other.score) and one.revision is None
    return revises and (one.source, one.annotator, one.turn) == (other.source, other.annotator, other.turn)
