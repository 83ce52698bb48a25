"""The two kinds of line of a log: an episode in its canonical shape, and feedback on an episode that stands before it.

    {"event": "episode", "id": "a1", "task": ..., "messages": [...], "feedback": [...]}
    {"event": "feedback", "episode": "a1", "judgement": "9f2c", "annotator": "kim", "time": "2026-05-01T10:00:00+00:00",
     "feedback": [{"score": 2, "min": 1, "max": 5, "critique": "..."}], "retracts": ["77aa"]}

A line of feedback may take earlier ones back, by their names in `judgement`: so a judgement is changed or undone, and
the file still tells what was said when. Items of `feedback` are those of an episode (`docs/formats.md`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

EPISODE = "episode"
FEEDBACK = "feedback"
Event = dict[str, Any]


class Judgement(msgspec.Struct, frozen=True):
    """One line of feedback of a log."""

    episode: str
    """Id of the episode that it is about."""
    judgement: str
    """Name of this line, unique in its file."""
    feedback: tuple[dict[str, Any], ...] = ()
    """Its items, as in an episode; none where it only takes others back."""
    retracts: tuple[str, ...] = ()
    """Names of the lines that no longer count."""
    annotator: str | None = None
    """Who judged, or took back."""
    time: str | None = None
    """When: ISO 8601, UTC."""
    undoes: str | None = None
    """The line that an undo took back; its `feedback` is then what had stood before that line."""


def build_feedback_event(
    episode: str,
    items: Iterable[dict[str, Any]],
    annotator: str | None = None,
    retracts: Iterable[str] = (),
    undoes: str | None = None,
) -> Event:
    """A line of feedback with a name of its own and the time of now."""
    found = Judgement(
        episode,
        secrets.token_hex(8),
        tuple(items),
        tuple(retracts),
        annotator,
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        undoes,
    )
    kept = {name: value for name, value in msgspec.to_builtins(found).items() if value not in (None, [], ())}
    return {"event": FEEDBACK, **kept}


def parse_judgement(event: Event) -> Judgement:
    """A line of feedback.

    Raises:
        ValueError: for what is none.
    """
    return msgspec.convert({name: value for name, value in event.items() if name != "event"}, Judgement)


def collect_items(judgements: Iterable[Judgement]) -> dict[str, list[dict[str, Any]]]:
    """For each episode the items that stand: those of every line that no other took back, in order."""
    judgements = list(judgements)
    retracted = {name for judgement in judgements for name in judgement.retracts}
    found: dict[str, list[dict[str, Any]]] = {}
    for judgement in judgements:
        if judgement.judgement not in retracted:
            found.setdefault(judgement.episode, []).extend(judgement.feedback)
    return found
