"""What a reader is: how to recognise a file of its format, and how one raw record becomes episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.returns import check_episode, check_list, describe, refuse
from feedback.types import Episode, Feedback, Message, Preference, Task, Turn, hash_prompt


@dataclass(frozen=True)
class FastReader:
    """A short cut for records that have nothing wrong: it explains nothing, and ids are noted in a first pass."""

    decode_header: Callable[[bytes], dict[str, Any] | None]
    """The columns of a JSON line that `observe_score` looks at; None where the line needs the slow way."""
    observe_score: Callable[[Record, ScoreRange], str | None]
    """Adds a record's undeclared score to the range and gives its id; None where the record needs the slow way."""
    parse: Callable[[Record, ScoreRange], Episode | None]
    """The episode that `Reader.parse` would give; None where the record needs the slow way."""


class Reader(ABC):
    """Reads one format. A reader of your own is a subclass with `parse`; it is named by its dotted path.

    Arguments of the constructor that are texts can be set behind a colon, as in `argilla:prompt=ask,response=said`.
    """

    name: ClassVar[str]
    """How the format is named; the dotted path of the class where it gives no name."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns that the first record of a file has when it is of this format."""
    takes_scale: ClassVar[bool] = True
    """Whether scores read without a scale of their own come on the scale that the user declares, else in [0, 1]; a
    format that fixes the scale of every score takes none."""
    reads_feedback: ClassVar[bool] = True
    """Whether records of the format hold feedback at all."""
    reads_row_columns: ClassVar[bool] = False
    """Whether feedback in the columns of a row (`score`, `critique`, `revision`) is read beside the format's own."""
    fast: ClassVar[FastReader | None] = None
    """A short cut for sound records."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    @abstractmethod
    def parse(self, fields: Fields) -> list[Episode]:
        """The episodes of one record.

        What is wrong with the record is noted by `fields.refuse` and by the methods that read it (`get_text`,
        `get_score`, ...); then nothing of it is used.
        """

    def is_match(self, record: dict[str, Any]) -> bool:
        """Whether a file whose first record this is has this format; asked of the shipped readers alone."""
        return all(name in record for name in self.columns)

    def merge(self, path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
        """Makes one record of several that belong together; by default each stands for itself."""
        return records


def read_episodes(reader: Reader, fields: Fields) -> list[Episode]:
    """What a reader makes of a record; that of a reader of your own is checked.

    Raises:
        DataError: where it is no list of episodes with names and words.
    """
    found = reader.parse(fields)
    if is_shipped(reader):
        return found
    episodes = check_list(reader, list(found) if isinstance(found, Iterator) else found, Episode, "episodes")
    for episode in episodes:
        for value, what in ((episode.id, "the id of an episode"), *((turn.text, "a turn") for turn in episode.turns)):
            if not isinstance(value, str):
                raise refuse(reader, f"{describe(value)} as {what}", "text")
    return episodes


def check_scores(reader: Reader, episodes: Iterable[Episode]) -> None:
    """Raises `DataError` for feedback that is none, off its scale or on no answer, from a reader of your own."""
    if not is_shipped(reader):
        for episode in episodes:
            check_episode(reader, episode)


def is_shipped(reader: Reader) -> bool:
    """Whether a reader lies in this project, whose own tests check what it gives."""
    return type(reader).__module__.startswith("feedback.readers.")


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
    better = f"{name}/chosen"
    worse = f"{name}/rejected"
    return [
        Episode(better, task, chosen, feedback[0], preferences=(Preference(worse),)),
        Episode(worse, task, rejected, feedback[1]),
    ]
