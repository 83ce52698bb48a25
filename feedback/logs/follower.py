"""A log as rows to learn from while it grows: row n is the same whenever it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feedback.faults import DataError
from feedback.logs.episodes import parse_episode
from feedback.logs.file import LogFile
from feedback.logs.judgements import EPISODE, Event, parse_judgement
from feedback.types import Episode


class Follower:
    """Each line of feedback that says something is one row: the episode that it is about, with what the episode came
    with and what the line says. Rows keep their numbers; one that a later line takes back is None from then on."""

    def __init__(self, path: str | Path):
        """Opens the log; raises `DataError` where there is none."""
        if not Path(path).is_file():
            raise DataError(
                str(path), None, "file", "nothing there", "a log", "`fdt serve` or `fdt annotate` makes it."
            )
        self._log = LogFile(path)
        self._events: dict[str, Event] = {}
        self._places: dict[str, int] = {}  # of a line of feedback, its row
        self.rows: list[Episode | None] = []

    def refresh(self) -> None:
        """Takes in the lines that were completed since.

        Raises:
            DataError: for a line that no log holds.
        """
        for event in self._log.read_new():
            if event["event"] == EPISODE:
                self._events[str(event.get("id"))] = event
                continue
            judgement = parse_judgement(event)
            for name in judgement.retracts:
                if name in self._places:
                    self.rows[self._places[name]] = None
            if judgement.feedback:
                self._places[judgement.judgement] = len(self.rows)
                self.rows.append(self._build(judgement.episode, judgement.feedback))

    def _build(self, episode: str, items: tuple[dict[str, Any], ...]) -> Episode:
        event = self._events.get(episode)
        if event is None:
            path = str(self._log.path)
            raise DataError(path, self._log.line, "episode", repr(episode), "the id of an episode on an earlier line")
        given = event | {"feedback": [*event.get("feedback", []), *items]}
        return parse_episode(given, self._log.path, self._log.line)
