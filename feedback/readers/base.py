"""What a format is: how to tell it, and how to turn one raw record into episodes. Adding one is one short file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode, Feedback, Message, Preference, Task, Turn, hash_prompt


@dataclass(frozen=True)
class FastReader:
    """A format's way past its explanations, for records that have nothing wrong; its ids are noted in a first pass."""

    peek: Callable[[bytes], dict[str, Any] | None]
    """The columns of a JSON line that `see` looks at; None where the line needs the slow way."""
    see: Callable[[Record, ScoreRange], str | None]
    """Shows a record's undeclared score to the marks and gives its id; None where it needs the slow way."""
    episode: Callable[[Record, ScoreRange], Episode | None]
    """The episode that `Format.episodes` would give; None where the record needs the slow way."""


@dataclass(frozen=True)
class Format:
    """One format of records."""

    name: str
    episodes: Callable[[Fields], list[Episode]]
    """The episodes of a record; what is wrong with it is noted in the fields, and then nothing of it is used."""
    columns: tuple[str, ...] = ()
    """Columns that the first record of a file has when it is of this format."""
    detect: Callable[[dict[str, Any]], bool] | None = None
    """What the first record must satisfy besides."""
    declared: bool = False
    """True where a scale must be declared for its scores, unless they lie in [0, 1]; else the format knows it."""
    join: Callable[[str | Path, Iterator[Record]], Iterator[Record]] | None = None
    """Makes one record of several that belong together."""
    quick: FastReader | None = None
    configured: Callable[[str], Format] | None = None
    """The format with the words that follow its name and a colon, where it takes any."""

    def is_match(self, fields: dict[str, Any]) -> bool:
        """Whether a first record looks like this format."""
        return all(name in fields for name in self.columns) and (self.detect is None or self.detect(fields))


def build_task(
    fields: Fields,
    messages: tuple[Message, ...],
    known: Iterable[str],
    reference: str | None = None,
    notes: dict[str, Any] | None = None,
) -> Task:
    """The task of a prompt; equal prompts are one. Columns that are not `known` and `notes` not None become meta."""
    meta = fields.collect_rest(known) | {name: note for name, note in (notes or {}).items() if note is not None}
    return Task(hash_prompt(messages), messages, reference, meta=meta)


def read_id(fields: Fields, *columns: str) -> str:
    """The record's id: the first of the columns that is filled, else its place."""
    return next(filter(None, (fields.get_label(column) for column in columns)), None) or fields.record.name


def build_critiques(texts: Iterable[str], source: str = "human", name: str = "critique") -> tuple[Feedback, ...]:
    """One item for each text, since each is somebody's."""
    return tuple(Feedback(source, None, name, text=text) for text in texts)


def build_pair(
    name: str,
    task: Task,
    chosen: tuple[Turn, ...],
    rejected: tuple[Turn, ...],
    feedback: tuple[tuple[Feedback, ...], tuple[Feedback, ...]] = ((), ()),
) -> list[Episode]:
    """Two episodes of one task, the first preferred to the second; `feedback` is that of each."""
    better, worse = f"{name}/chosen", f"{name}/rejected"
    return [
        Episode(better, task, chosen, feedback[0], preferences=(Preference(worse),)),
        Episode(worse, task, rejected, feedback[1]),
    ]
