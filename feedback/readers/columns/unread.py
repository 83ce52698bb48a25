"""What a file holds under names that nobody reads: feedback, and what stands beside the prompt. It is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.base import Reader, is_shipped
from feedback.readers.columns.beside import PLAIN, check_beside
from feedback.readers.columns.fit import CHOSEN, CONFIG, REJECTED, Values, iter_inner, suggest_map
from feedback.readers.columns.mapping import NOTE, Columns, format_map
from feedback.readers.columns.markup import check_markup
from feedback.readers.columns.names import (
    find_kind,
    find_unmistakable,
    holds_lists,
    is_reversed,
    names_reference,
    read_range,
    split_name,
)
from feedback.readers.fast_rows import KNOWN
from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode, Task

REFERRING = ("rows", "prompts", "trl-completion", "trl-privileged")
"""Formats with a column for the right answer."""


class Watch:
    """Tells feedback that turns up after the records that a file was judged by."""

    def __init__(self, path: str, reader: Reader, notes: Values, known: Iterable[str], is_plain: bool, mapped: Columns):
        self.path = path
        self.reader = reader
        self.mapped = mapped
        self.seen = set(notes)
        """Notes that were judged."""
        self.known = frozenset(known)
        """Kinds of feedback that are read, and columns that are no notes."""
        self.is_plain = is_plain
        """Whether columns mean what their names say, so that each record is judged alone and by more words."""
        self.telling = find_telling(notes) if is_plain else {}
        """Notes that stay notes for as long as feedback of their kind stands beside them, each with its field."""

    def check(self, record: Record, episodes: Sequence[Episode]) -> None:
        """Raises one `DataError` for a note that no earlier record had, as `check_unread` does for the first, and for
        one that says what the feedback beside it said before and does not say here."""
        found = {name: value for episode in episodes for name, value in episode.task.meta.items()}
        if found.keys() <= self.seen and not self._stands_alone(found, episodes):
            return
        notes, inner = collect_notes([found], self.mapped)
        notes |= inner
        new = {name: values for name, values in notes.items() if name not in self.seen}
        self.seen |= new.keys()
        unread = _find_unread(self.reader, new, self.known | list_kinds(episodes) | record.fields.keys())
        if self.is_plain:
            self.telling |= find_telling(new)
            unread |= _find_unread_rows(self.reader, [(record, episodes)], notes, self.mapped)
        if unread:
            raise _build_unread_error(self.path, self.reader, unread, notes)

    def _stands_alone(self, found: Mapping[str, Any], episodes: Sequence[Episode]) -> bool:
        """Whether one of the notes that tell may be here without feedback of its kind: cheap, every record asks."""
        here = {field for name, field in self.telling.items() if name.partition(".")[0] in found}
        return bool(here) and not here <= list_kinds(episodes)


def check_unread(path: str, reader: Reader, head: Sequence[Record], mapped: Columns) -> Watch | None:
    """Raises one `DataError` where feedback stands in columns that the format does not read, and none of its kind in
    those that it does; or what the policy should read in a column of its own. The watch is for the records after these;
    None where there is nothing to watch for. `mapped` columns are judged: what one names in an object stays there."""
    if not is_shipped(reader):
        return None
    score_range = ScoreRange((-math.inf, math.inf))
    episodes: list[Episode] = []
    rows: list[tuple[Record, list[Episode]]] = []
    for record in reader.merge(path, iter(head)):
        fields = Fields(record, score_range)
        found = reader.parse(fields) if record.error is None else []
        episodes += [] if fields.faults else found
        rows += [] if fields.faults else [(record, found)]
    kinds = list_kinds(episodes)
    notes, inner = collect_notes((episode.task.meta for episode in episodes), mapped)
    check_beside(path, reader, head, notes)
    check_markup(path, episodes)
    given = {name for record in head for name in record.columns if name not in notes}
    unread = _find_unread(reader, notes | inner, kinds | given)
    is_plain = is_anybodys(reader, head)
    if is_plain:
        unread |= _find_unread_rows(reader, rows, notes | inner, mapped)
    if unread:
        raise _build_unread_error(path, reader, unread, notes | inner)
    if not reader.reads_feedback:
        return None
    known = kinds if is_plain or not kinds - {"reference"} else {"score", "critique"}
    if lists := [name for name, values in (notes | inner).items() if holds_lists(name, values, known)]:
        keep = format_map({f"{NOTE}{name}": name for name in lists})
        said = ", ".join(f"{format_value(name)} (lists)" for name in lists)
        remedy = "Give each value a column of its own, or write scores: [{name, value}] (docs/formats.md); or type "
        remedy += f"{keep} to keep it as a note{CONFIG}"
        raise DataError(path, None, "columns", f"feedback that nothing reads: {said}", "one value a column", remedy)
    return Watch(path, reader, notes | inner, kinds | given, is_plain, mapped)


def check_prompts(path: str, reader: Reader, head: Sequence[tuple[Record, Task]], mapped: Columns) -> None:
    """What `check_unread` does, for the prompts of a file of which nothing but prompts and references is read."""
    notes, inner = collect_notes((task.meta for _, task in head), mapped)
    check_beside(path, reader, [record for record, _ in head], notes)
    check_markup(path, [Episode("", task, ()) for _, task in head])
    known = {name for record, _ in head for name in (*record.columns, *record.fields) if name in KNOWN}
    if unread := _find_unread(reader, notes | inner, known):
        raise _build_unread_error(path, reader, unread, notes | inner)


def collect_notes(metas: Iterable[Mapping[str, Any]], mapped: Columns) -> tuple[Values, Values]:
    """The values of each note of some tasks, and under dotted names those inside the objects among them that no map
    names."""
    notes: Values = {}
    inner: Values = {}
    for meta in metas:
        for name, value in meta.items():
            notes.setdefault(name, []).append(value)
            for place, each in iter_inner(name, value):
                inner.setdefault(place, []).append(each)
    return notes, {name: values for name, values in inner.items() if name not in mapped.values()}


def _find_unread(reader: Reader, notes: Values, known: set[str] | frozenset[str]) -> dict[str, str]:
    """Notes that hold feedback of a kind that is not among the known, or the right answer, each with its field."""
    found = {}
    for name, values in notes.items():
        field = find_unmistakable(name, values) if reader.reads_feedback else None
        if field is not None and (field not in known or _is_score_of_pair(reader, name, field)):
            found[name] = field
        elif reader.name in REFERRING and "reference" not in known:
            is_alone = not reader.reads_feedback
            found |= {name: "reference"} if names_reference(name, values, is_alone) else {}
    return found


def find_telling(notes: Values) -> dict[str, str]:
    """Notes that say feedback where names mean what they say, each with its field."""
    found = {name: find_unmistakable(name, values, is_plain=True) for name, values in notes.items()}
    return {name: field for name, field in found.items() if field is not None}


def is_anybodys(reader: Reader, head: Sequence[Record]) -> bool:
    """Whether columns mean what their names say: no format gives them another meaning, and none is a note of ours."""
    return reader.reads_feedback and reader.name in PLAIN and not any("meta" in record.fields for record in head)


def _find_unread_rows(
    reader: Reader, rows: Iterable[tuple[Record, Sequence[Episode]]], notes: Values, mapped: Columns
) -> dict[str, str]:
    """The same by more words, row by row: what one row reads says nothing of the next."""
    telling = find_telling(notes)
    found: dict[str, str] = {}
    for record, episodes in rows:
        own, inner = collect_notes((episode.task.meta for episode in episodes), mapped)
        known = list_kinds(episodes) | {name for name, value in record.fields.items() if value not in (None, "")}
        held = {name for name, values in (own | inner).items() if any(value not in (None, "") for value in values)}
        for name in telling.keys() & held:
            if telling[name] not in known or _is_score_of_pair(reader, name, telling[name]):
                found[name] = telling[name]
    return found


def _is_score_of_pair(reader: Reader, name: str, field: str) -> bool:
    """Whether a column scores an answer of a comparison, which the comparison alone does not say."""
    words = split_name(name)
    of_one = len(words) > 1 and not (CHOSEN | REJECTED).isdisjoint(words)
    told = name == field or of_one or not {"strength", "margin"}.isdisjoint(words)
    return reader.name in ("trl-preference", "trl-stepwise") and field == "score" and told


def list_kinds(episodes: Iterable[Episode]) -> set[str]:
    """Which of score, critique, revision and reference the episodes hold; a comparison counts as a score."""
    found = set()
    for episode in episodes:
        found |= {"reference"} if episode.task.reference is not None else set()
        if episode.preferences:
            found.add("score")
        for item in episode.feedback:
            found |= {"score"} if item.scale or not math.isnan(item.score) else set()
            found |= {"critique"} if item.text else set()
            found |= {"revision"} if item.revision else set()
    return found


def _build_unread_error(path: str, reader: Reader, unread: dict[str, str], notes: Values) -> DataError:
    said = ", ".join(f"{format_value(name)} ({_describe(notes[name])})" for name in unread)
    bad = [name for name, field in unread.items() if is_reversed(name, field)]
    mapped: dict[str, str] = {}
    for name, field in sorted(unread.items(), key=lambda pair: "overall" not in split_name(pair[0])):
        if name != field and name not in bad:
            mapped.setdefault(field, name)
    mapped = {field: mapped[field] for field in dict.fromkeys(unread.values()) if field in mapped}
    keep = format_map({f"{NOTE}{name}": name for name in unread})
    read = f"Type {suggest_map(mapped, notes)} to read it"
    if not mapped or not (reader.reads_row_columns or set(mapped) == {"reference"}):
        read = f"The format {reader.name} reads no such column: put it into rows or episodes (docs/formats.md)"
    if bad:
        read = f"{read}. " if mapped else ""
        read += f"A high value of {', '.join(map(format_value, bad))} says bad: write the opposite into a column "
        read += "score, high where the answer is good"
    remedy = f"{read}, or {keep} to keep it as a note{CONFIG}"
    expected = f"{' and '.join(dict.fromkeys(unread.values()))} under names that the format {reader.name} reads"
    what = "a right answer" if set(unread.values()) == {"reference"} else "feedback"
    return DataError(path, None, "columns", f"{what} that nothing reads: {said}", expected, remedy)


def _describe(values: list[Any]) -> str:
    seen = read_range(values)
    if find_kind(values) == "text":
        return "text"
    if seen is None:
        return "ratings as text" if any(isinstance(value, str) for value in values) else "true or false"
    return f"numbers from {seen[0]:g} to {seen[1]:g}"
