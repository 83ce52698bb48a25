"""fdt's own log: episodes, and lines of feedback on them that came later (`feedback.logs`); `fdt annotate` and `fdt
serve` append to it.

Every line is `{"event": "episode", ...}`, the rest of it an episode in its canonical shape, or `{"event": "feedback",
"episode": ID, "judgement": NAME, "feedback": [...], "retracts": [NAME, ...]}` about an episode before it. A last line
without its end is being written, or was when its writer was killed, and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from feedback.faults import DataError
from feedback.logs.judgements import EPISODE, FEEDBACK, Judgement, collect_items, parse_judgement
from feedback.readers.fields import Fields
from feedback.readers.files import read_records
from feedback.readers.formats.episodes import Episodes
from feedback.readers.record import Record
from feedback.types import Episode


class Log(Episodes):
    """One episode with all feedback on it that stands."""

    name = "log"
    columns: ClassVar[tuple[str, ...]] = ("event", "messages")

    def is_match(self, record: dict[str, Any]) -> bool:
        """An episode as a line of a log."""
        return super().is_match(record) and record["event"] == EPISODE

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        if fields.get("event") != EPISODE:
            fields.refuse("event", fields.get("event"), f"{EPISODE} or {FEEDBACK}")
            return []
        return super().parse(
            fields.replace_values({name: value for name, value in fields.value.items() if name != "event"})
        )

    def merge(self, path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
        """Each episode with the feedback of later lines."""
        given = collect_items(_read_judgements(path))
        for record in drop_torn_line(path, records):
            if record.error is None and record.fields.get("event") == FEEDBACK:
                continue
            own = record.fields.get("feedback") or []
            later = given.get(str(record.fields.get("id")), [])
            if later and isinstance(own, list):
                record.fields = record.fields | {"feedback": [*own, *later]}
            yield record


def drop_torn_line(path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
    """The records without a last one whose line has no end and cannot be read."""
    held: Record | None = None
    for record in records:
        if held is not None:
            yield held
        held = record
    if held is not None and not (held.error is not None and _lacks_end(path)):
        yield held


def _lacks_end(path: str | Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _read_judgements(path: str | Path) -> Iterator[Judgement]:
    """The lines of feedback of a file; raises `DataError` for one that is malformed or about no episode before it."""
    known: set[str] = set()
    for record in read_records(path):
        if record.error is None and record.fields.get("event") == FEEDBACK:
            try:
                found = parse_judgement(record.fields)
            except msgspec.ValidationError as fault:
                raise record.build_error("feedback", str(fault), "a line of feedback as fdt writes it") from None
            if found.episode not in known:
                raise _refuse_stray(record, found.episode)
            yield found
        elif record.error is None:
            known.add(str(record.fields.get("id")))


def _refuse_stray(record: Record, episode: str) -> DataError:
    return record.build_error("episode", repr(episode), "the id of an episode on an earlier line")
