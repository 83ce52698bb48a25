"""Episodes as lines of a log, and back."""

from __future__ import annotations

from pathlib import Path

from feedback.faults import DataError
from feedback.logs.judgements import EPISODE, Event
from feedback.readers.fields import Fields
from feedback.readers.formats.episodes import build_record
from feedback.readers.formats.log import Log
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode


def build_episode_event(episode: Episode) -> Event:
    """The line of an episode, with all feedback that it has."""
    return {"event": EPISODE, **build_record(episode)}


def parse_episode(event: Event, path: Path, line: int) -> Episode:
    """The episode of a line of a log.

    Raises:
        DataError: where it is none.
    """
    fields = Fields(Record(str(path), line, event), ScoreRange())
    found = Log().parse(fields)
    if fields.faults:
        raise fields.faults[0]
    if not found:
        raise DataError(str(path), line, "event", "no episode", "an episode as fdt writes it")
    return found[0]
