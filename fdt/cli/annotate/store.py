"""The answers that are judged and all judgements on them, as one log holds them; every change is a line of that log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from feedback.logs import Judgement, LogFile, build_feedback_event, collect_items
from feedback.logs.episodes import parse_episode
from feedback.logs.judgements import EPISODE, parse_judgement
from feedback.readers.formats.episodes import build_record
from feedback.types import Episode

Key = tuple[str, int | None]
"""An episode's id and the place of a message in it, from 0; None: the whole episode."""


class Mark(msgspec.Struct, frozen=True):
    """What one annotator says of an episode or a turn of it."""

    score: int | None = None
    critique: str | None = None
    revision: str | None = None
    judgement: str = ""
    """The line of the log that says it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return self.score is None and self.critique is None and self.revision is None


class AnnotationStore:
    """A log in memory: its episodes in order, and its judgements. Not for several threads."""

    def __init__(self, path: Path, points: tuple[int, int]):
        """
        Args:
            path: the log; it exists.
            points: lowest and highest score that the page gives.
        """
        self.path = path
        self.points = points
        self.episodes: list[Episode] = []
        self.judgements: list[Judgement] = []
        self._log = LogFile(path)
        self._places: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes in what was appended since, here or by another process."""
        for event in self._log.read_new():
            if event["event"] == EPISODE:
                episode = parse_episode(event, self.path, self._log.line)
                self._places[episode.id] = len(self.episodes)
                self.episodes.append(episode)
            else:
                self.judgements.append(parse_judgement(event))

    def find_place(self, episode: str) -> int | None:
        """Where an episode of this id stands, from 0; None where there is none."""
        return self._places.get(episode)

    def read_marks(self, annotator: str) -> dict[Key, Mark]:
        """What stands of an annotator's judgements, by what they are about."""
        retracted = {name for judgement in self.judgements for name in judgement.retracts}
        return {
            (judgement.episode, item.get("turn")): Mark(
                item.get("score"), item.get("critique"), item.get("revision"), judgement.judgement
            )
            for judgement in self.judgements
            if judgement.annotator == annotator and judgement.judgement not in retracted
            for item in judgement.feedback
        }

    def read_feedback(self, episode: Episode) -> Episode:
        """The episode with all feedback that stands."""
        items = collect_items(self.judgements).get(episode.id, [])
        record = {"event": EPISODE, **build_record(episode)}
        return parse_episode(record | {"feedback": [*record.get("feedback", []), *items]}, self.path, 0)

    def save(self, annotator: str, key: Key, mark: Mark) -> bool:
        """Puts a judgement on record, in place of the annotator's earlier one of the same thing; an empty one takes it
        back. False where it says nothing new.

        Raises:
            DataError: the disk is full or fails; nothing has changed then.
        """
        self.refresh()
        before = self.read_marks(annotator).get(key, Mark())
        if (before.score, before.critique, before.revision) == (mark.score, mark.critique, mark.revision):
            return False
        items = [] if mark.is_empty else [self._build_item(annotator, key, mark)]
        retracts = [before.judgement] if before.judgement else []
        self._log.append(build_feedback_event(key[0], items, annotator, retracts))
        self.refresh()
        return True

    def undo(self, annotator: str) -> Key | None:
        """Takes the annotator's last change back, so that what stood before it stands again; what it was about, None
        where there is no change left."""
        self.refresh()
        own = [judgement for judgement in self.judgements if judgement.annotator == annotator]
        undone = {judgement.undoes for judgement in own}
        last = next((j for j in reversed(own) if j.undoes is None and j.judgement not in undone), None)
        if last is None:
            return None
        named = {judgement.judgement: judgement for judgement in own}
        before = [item for name in last.retracts if name in named for item in named[name].feedback]
        key = (last.episode, (*last.feedback, *before)[0].get("turn"))
        standing = self.read_marks(annotator).get(key)
        retracts = [standing.judgement] if standing else []
        self._log.append(build_feedback_event(last.episode, before, annotator, retracts, last.judgement))
        self.refresh()
        return key

    def count_judged(self, annotator: str) -> int:
        """Episodes that the annotator has judged, as a whole or in part."""
        return len({episode for episode, _ in self.read_marks(annotator)})

    def find_unjudged(self, annotator: str, after: int = -1) -> int | None:
        """The next episode without a judgement of the annotator behind a place, else the first one; None: no more."""
        judged = {episode for episode, _ in self.read_marks(annotator)}
        order = [*range(after + 1, len(self.episodes)), *range(min(after + 1, len(self.episodes)))]
        return next((place for place in order if self.episodes[place].id not in judged), None)

    def _build_item(self, annotator: str, key: Key, mark: Mark) -> dict[str, Any]:
        low, high = self.points
        scale = {} if mark.score is None else {"score": mark.score, "min": low, "max": high}
        item = {"turn": key[1], **scale, "critique": mark.critique, "revision": mark.revision}
        return {name: value for name, value in item.items() if value is not None} | {
            "source": "human",
            "annotator": annotator,
        }
