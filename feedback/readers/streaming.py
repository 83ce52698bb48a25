"""One pass over a file: each record becomes its episodes or the fault that refused it, and both are counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from feedback.faults import DataError
from feedback.readers.base import Reader, check_scores, read_episodes
from feedback.readers.catalogue import PROMPTS, READERS, find_reader
from feedback.readers.columns.endings import note_endings
from feedback.readers.columns.fit import ESSENTIAL, check_fit, check_pair
from feedback.readers.columns.mapping import (
    Columns,
    add_notes,
    check_map,
    check_presence,
    map_records,
    warn_of_reversed,
)
from feedback.readers.columns.orientation import check_headers, check_orientation, check_wrapping
from feedback.readers.columns.packed import unpack_tools
from feedback.readers.columns.unread import Watch, check_unread
from feedback.readers.fields import Fields
from feedback.readers.files import FastJson, read_records
from feedback.readers.formats.rows import Rows
from feedback.readers.formats.trl import TRLPreference
from feedback.readers.ids import IdIndex
from feedback.readers.record import Record, parse_json_fast
from feedback.readers.scales import Scale, ScoreRange, check_scale
from feedback.types import Episode

HEAD = 100
"""Records that are looked at before the first is read: they show the format, and what a file holds besides."""


class Stream(Iterator[Episode | DataError]):
    """An iterator over the episodes and faults of a file, in its order, that holds none of them.

    A record may hold several episodes (a preference pair has two). `num_loaded` + `num_rejected` = `num_records`, those
    read so far.
    """

    def __init__(
        self,
        path: str | Path,
        format: str | Reader | type[Reader] = "auto",
        scale: Scale | None = None,
        columns: Columns | None = None,
    ):
        check_scale(str(path), scale)
        self.path = path
        self.columns = columns or {}
        check_map(self.columns)
        check_presence(str(path), read_records(path), self.columns)
        warn_of_reversed(str(path), self.columns)
        self.reader = select_reader(path, format, self.columns)
        self._watch = check_head(path, self.reader, self.columns)
        if scale is not None and not self.reader.takes_scale:
            expected = f"none: scores in the format {self.reader.name} carry their own"
            raise DataError(str(path), None, "scale", str(scale), expected)
        self.score_range = ScoreRange(scale)
        self.num_records = 0
        self.num_rejected = 0
        self._items = self._read()

    @property
    def num_loaded(self) -> int:
        """Records that became episodes."""
        return self.num_records - self.num_rejected

    def __iter__(self) -> Iterator[Episode | DataError]:
        return self._items

    def __next__(self) -> Episode | DataError:
        return next(self._items)

    def _iter_records(self, decode: FastJson = parse_json_fast) -> Iterator[Record]:
        records = read_records(self.path, parse_json_fast if self.columns else decode)
        return self.reader.merge(self.path, map_records(records, self.columns) if self.columns else records)

    def _read(self) -> Iterator[Episode | DataError]:
        ids = IdIndex()
        fast = self.reader.fast
        if fast or (self.reader.takes_scale and self.score_range.declared_scale is None):
            self._scan_scores(ids)
        for record in self._iter_records():
            self.num_records += 1
            episode = fast.parse(record, self.score_range) if fast and record.error is None else None
            if episode is not None and ids.find_duplicate(episode.id, record.line) is None:
                if self._watch and episode.task.meta:
                    self._watch.check(record, [episode])
                yield from add_notes(record, [episode])
                continue
            found = self._parse_record(record, ids)
            if isinstance(found, DataError):
                self.num_rejected += 1
                yield found
            else:
                yield from found

    def _scan_scores(self, ids: IdIndex) -> None:
        """A first pass: every undeclared score is seen before one is used, and ids that repeat are known."""
        fast = self.reader.fast
        for record in self._iter_records(fast.decode_header if fast else parse_json_fast):
            name = fast.observe_score(record, self.score_range) if fast and record.error is None else None
            if name is not None:
                ids.add_id(name)
            elif record.error is None:
                for episode in read_episodes(self.reader, Fields(record, self.score_range)):
                    ids.add_id(episode.id)
        ids.keep_repeated()
        self.score_range.check_range()

    def _parse_record(self, record: Record, ids: IdIndex) -> list[Episode] | DataError:
        """The episodes of a record, or its first fault with the others attached to it."""
        if record.error is not None:
            return record.error
        fields = Fields(record, self.score_range)
        unpack_tools(fields)
        episodes = note_endings(fields, read_episodes(self.reader, fields))
        for episode in episodes:
            line = ids.find_duplicate(episode.id, record.line)
            if line is not None:
                expected = f"an id of its own: {record.unit} {line} has this one"
                fields.refuse("id", episode.id, expected, "Number the rows anew.")
        if not fields.faults:
            check_scores(self.reader, episodes)
            if self._watch:
                self._watch.check(record, episodes)
            return add_notes(record, episodes)
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


def select_reader(
    path: str | Path, format: str | Reader | type[Reader] = "auto", columns: Columns | None = None
) -> Reader:
    """The reader of the format of that name; for `auto`, the first that fits the first whole record.

    Where none does, the first records together decide, since a record may lack what others have: prompts alone, else
    rows. Raises `DataError` as `find_reader`, and for a file without a record.
    """
    if format != "auto":
        found = find_reader(format)
        next(require_records(path))
        return found
    head = read_head(path, columns)
    whole = [record.fields for record in head if record.error is None]
    first = whole[0] if whole else {}
    together = {name: None for record in head for name in record.columns}
    together |= {name: value for record in reversed(whole) for name, value in record.items()}
    tried = [(reader, first) for reader in READERS] + [(reader, together) for reader in (*READERS, PROMPTS)]
    return next((reader for reader, record in tried if whole and reader.is_match(record)), Rows())


def read_head(path: str | Path, columns: Columns | None = None) -> list[Record]:
    """The first records, their columns under the names of their fields; raises as `require_records`."""
    return list(islice(map_records(require_records(path), columns or {}), HEAD))


def check_head(path: str | Path, reader: Reader, columns: Columns) -> Watch | None:
    """Raises `DataError` for a file that is no list of rows, or whose columns fit nothing or hold unread feedback. What
    it gives is for the records below."""
    head = read_head(path, columns)
    check_orientation(str(path), head)
    check_headers(str(path), head)
    if isinstance(reader, Rows):
        if not any(name in record.columns or name in record.fields for record in head for name in ESSENTIAL):
            check_wrapping(str(path), head)
        check_fit(str(path), head)
    if isinstance(reader, TRLPreference):
        check_pair(str(path), head)
    return check_unread(str(path), reader, head, columns)
