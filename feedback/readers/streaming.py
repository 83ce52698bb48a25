"""One pass over a file: each record becomes its episodes or the fault that refused it, and both are counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from feedback.faults import DataError, format_value
from feedback.readers.base import Format
from feedback.readers.catalogue import READERS
from feedback.readers.fields import Fields
from feedback.readers.files import QuickJson, read_records
from feedback.readers.formats.rows import ROWS
from feedback.readers.names import IdIndex
from feedback.readers.record import Record, parse_json_fast
from feedback.readers.scales import Scale, ScoreRange, check_scale
from feedback.types import Episode

LOOKED_AT = 100
"""Records that may be broken before the first whole one, which tells the format."""


class Stream(Iterator[Episode | DataError]):
    """An iterator over the episodes and faults of a file, in its order, that holds none of them.

    A record may hold several episodes (a preference pair has two); `loaded` + `refused` = `records`, those met so far.
    """

    def __init__(self, path: str | Path, format: str = "auto", scale: Scale | None = None):
        check_scale(str(path), scale)
        self.path = path
        self.format = select_format(path, format)
        if scale is not None and not self.format.declared:
            raise DataError(
                str(path), None, "scale", str(scale), f"none: marks in the format {self.format.name} carry their own"
            )
        self.marks = ScoreRange(scale)
        self.records = self.refused = 0
        self._items = self._read()

    @property
    def num_loaded(self) -> int:
        """Records that became episodes."""
        return self.records - self.refused

    def __iter__(self) -> Iterator[Episode | DataError]:
        return self._items

    def __next__(self) -> Episode | DataError:
        return next(self._items)

    def _iter_records(self, quick: QuickJson = parse_json_fast) -> Iterator[Record]:
        source = read_records(self.path, quick)
        return self.format.join(self.path, source) if self.format.join else source

    def _read(self) -> Iterator[Episode | DataError]:
        names, quick = IdIndex(), self.format.quick
        if quick or (self.format.declared and self.marks.declared is None):
            self._scan_scores(names)
        for record in self._iter_records():
            self.records += 1
            episode = quick.episode(record, self.marks) if quick and record.broken is None else None
            if episode is not None and names.find_duplicate(episode.id, record.line) is None:
                yield episode
                continue
            found = self._parse_record(record, names)
            if isinstance(found, DataError):
                self.refused += 1
                yield found
            else:
                yield from found

    def _scan_scores(self, names: IdIndex) -> None:
        """A first pass: every undeclared score is seen before one is used, and ids that repeat are known."""
        quick = self.format.quick
        for record in self._iter_records(quick.peek if quick else parse_json_fast):
            name = quick.see(record, self.marks) if quick and record.broken is None else None
            if name is not None:
                names.add_id(name)
            elif record.broken is None:
                for episode in self.format.episodes(Fields(record, self.marks)):
                    names.add_id(episode.id)
        names.keep_repeated()
        self.marks.check_range()

    def _parse_record(self, record: Record, names: IdIndex) -> list[Episode] | DataError:
        """The episodes of a record, or its first fault with the others hung on it."""
        if record.broken is not None:
            return record.broken
        fields = Fields(record, self.marks)
        episodes = self.format.episodes(fields)
        for episode in episodes:
            line = names.find_duplicate(episode.id, record.line)
            if line is not None:
                fields.refuse(
                    "id", episode.id, f"an id of its own: {record.unit} {line} has this one", "Number the rows anew."
                )
        if not fields.faults:
            return episodes
        first, *others = fields.faults
        first.others = tuple(others)
        return first


def require_records(path: str | Path) -> Iterator[Record]:
    """The records of a file that has at least one."""
    source = read_records(path)
    first = next(source, None)
    if first is None:
        raise DataError(str(path), None, "file", "no record", "at least one", "Check how it was written.")
    return chain([first], source)


def select_format(path: str | Path, format: str = "auto") -> Format:
    """The format of that name; for `auto`, the first whose marks the first whole record bears, else rows."""
    if format != "auto":
        name, _, words = format.partition(":")
        found = next((reader for reader in READERS if reader.name == name), None)
        if found is None or (words and found.configured is None):
            names = ", ".join(reader.name for reader in READERS)
            raise DataError(str(path), None, "format", format_value(format), f"one of auto, {names}")
        next(require_records(path))
        return found.configured(words) if words else found
    first = next((record for record in islice(require_records(path), LOOKED_AT) if record.broken is None), None)
    return next((reader for reader in READERS if first is not None and reader.is_match(first.fields)), ROWS)
