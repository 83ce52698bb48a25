"""From a file of feedback to episodes: `read` for all of them or the first fault, `read_with_report` for both.

Formats: "rows" (the canonical row, JSON Lines, CSV or Parquet), "shepherd" (both of its files), "auto" (looks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from feedback.aggregate import aggregated
from feedback.faults import DataFault, show
from feedback.readers.files import records
from feedback.readers.record import Record
from feedback.readers.rows import Fields, row_episode, row_task
from feedback.readers.shepherd import is_flat, is_raw, shepherd_episode
from feedback.types import Episode, Task, with_hints

Scale = tuple[float, float]
FORMATS = ("auto", "rows", "shepherd")


def read(path: str | Path, format: str = "auto", scale: Scale | None = None, aggregate: str = "mean") -> list[Episode]:
    """All episodes of a file, scores mapped from `scale` (lowest, highest) to [0, 1], each task with its hints.

    `aggregate` says what becomes of several annotators' scores of one thing: mean, majority, first, or each.

    Raises `DataFault` for the first thing wrong: a missing or empty file, bad JSON or encoding, a wrong type, a row
    without response, a score that is not finite or off the scale, a repeated id, a `format` or `scale` that makes
    no sense.
    """
    return aggregated(read_with_report(path, format, scale)[0], aggregate)


def read_with_report(
    path: str | Path, format: str = "auto", scale: Scale | None = None, lenient: bool = False
) -> tuple[list[Episode], list[DataFault]]:
    """The episodes that could be read, and one fault for each record that was refused (see its `others`).

    The two numbers add up to the file's records. Without `lenient` the first fault is raised instead.
    """
    episodes: list[Episode] = []
    refused: list[DataFault] = []
    places: list[Record] = []
    for place, result in _converted(path, format, scale):
        if isinstance(result, DataFault):
            refused.append(result)
        else:
            episodes.append(result)
            places.append(replace(place, fields={}))
    if scale is None:
        episodes, unscaled = _off_scale(episodes, places)
        refused = sorted(refused + unscaled, key=lambda fault: fault.line or 0)
    if refused and not lenient:
        raise refused[0]
    return with_hints(episodes), refused


def stream(path: str | Path, format: str = "auto", scale: Scale | None = None) -> Iterator[Episode | DataFault]:
    """Each record of a file in order: its episodes, or the fault that refused it.

    Raises `DataFault` for a file that cannot be read at all, and for a `format` or `scale` that makes no sense.
    """
    episodes, refused = read_with_report(path, format, scale, lenient=True)
    yield from episodes
    yield from refused


def detect(path: str | Path) -> str:
    """The format's name, by the first record. Raises `DataFault` for a file without one."""
    first = next(_some(path))
    return "shepherd" if is_raw(first) or is_flat(first) else "rows"


def read_tasks(path: str | Path) -> list[Task]:
    """The prompts of a file of rows that need no response: `id`, `task`, `prompt`, `reference`, further columns.

    Raises `DataFault` as `read` does. The id is kept as `meta["id"]`.
    """
    tasks, seen = [], {}
    for record in _some(path):
        fields = Fields(record)
        name = fields.label("id") or f"{record.unit}-{record.line}"
        task = row_task(fields)
        _once(fields, name, seen)
        fault = record.broken or next(iter(fields.faults), None)
        if fault:
            raise fault
        tasks.append(replace(task, meta=task.meta | {"id": name}))
    return tasks


def _converted(path: str | Path, format: str, scale: Scale | None) -> Iterator[tuple[Record, Episode | DataFault]]:
    """Each record with its episode or with its first fault, the others hung on it."""
    _check_scale(path, scale)
    source = _some(path)
    first = next(source)
    convert = _converter(path, first, format)
    if convert is shepherd_episode and scale is not None:
        raise DataFault(str(path), None, "scale", str(scale), "none: Shepherd's ratings carry their own, from 1 to 5")
    seen: dict[str, int] = {}
    for record in chain([first], source):
        fields = Fields(record)
        if record.broken:
            yield record, record.broken
            continue
        episode = convert(fields)
        _once(fields, episode.id, seen)
        if scale is not None:
            episode = _mapped(episode, fields, scale)
        if fields.faults:
            fields.faults[0].others = tuple(fields.faults[1:])
        yield record, fields.faults[0] if fields.faults else episode


def _some(path: str | Path) -> Iterator[Record]:
    """The records of a file that has at least one."""
    source = records(path)
    first = next(source, None)
    if first is None:
        raise DataFault(str(path), None, "file", "no record", "at least one", "Check how it was written.")
    return chain([first], source)


def _converter(path: str | Path, first: Record, format: str) -> Callable[[Fields], Episode]:
    if format not in FORMATS:
        raise DataFault(str(path), None, "format", show(format), "one of " + ", ".join(FORMATS))
    if format == "shepherd" or (format == "auto" and (is_raw(first) or is_flat(first))):
        return shepherd_episode
    return row_episode


def _once(fields: Fields, name: str, seen: dict[str, int]) -> None:
    place = fields.record
    if name in seen:
        fields.refuse("id", name, f"an id of its own: {place.unit} {seen[name]} has this one", "Number the rows anew.")
    seen.setdefault(name, place.line)


def _check_scale(path: str | Path, scale: Scale | None) -> None:
    if scale is not None and not (all(math.isfinite(end) for end in scale) and scale[0] < scale[1]):
        raise DataFault(str(path), None, "scale", str(scale), "its lowest and highest mark, finite, lowest < highest")


def _mapped(episode: Episode, fields: Fields, scale: Scale) -> Episode:
    low, high = scale
    for item in episode.feedback:
        if not (math.isnan(item.score) or low <= item.score <= high):
            fields.refuse("score", item.score, f"a number from {low:g} to {high:g}", "Correct it or the scale.")
    return replace(episode, feedback=tuple(
        replace(item, score=(item.score - low) / (high - low)) for item in episode.feedback))


def _off_scale(episodes: list[Episode], places: list[Record]) -> tuple[list[Episode], list[DataFault]]:
    """Refuses every scored row when undeclared scores leave [0, 1]: even a 1 in such a file may be the lowest mark."""
    scores = [item.score for episode in episodes for item in episode.feedback if not math.isnan(item.score)]
    if not scores or (min(scores) >= 0 and max(scores) <= 1):
        return episodes, []
    seen = f"in a file whose scores run from {min(scores):g} to {max(scores):g}"
    kept, refused = [], []
    for episode, place in zip(episodes, places, strict=True):
        if math.isnan(episode.score):
            kept.append(episode)
        else:
            refused.append(place.fault("score", f"{episode.score:g} {seen}", "scores from 0 to 1",
                                       "Declare the scale: its lowest and highest mark, for example 1 5."))
    return kept, refused
