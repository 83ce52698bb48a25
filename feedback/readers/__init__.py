"""From a file of feedback to episodes: `stream` for any size, `read` for all of them at once.

A format is found by the columns of the first record (`detect`), or named: one of `FORMATS`, or the dotted path of a
`Reader` of your own. `docs/formats.md` lists their columns.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from feedback.aggregate import add_win_rates, aggregate_scores, check_rule, measure_disagreement
from feedback.faults import DataError, format_value
from feedback.readers.base import Reader, build_pair, build_task, read_id
from feedback.readers.catalogue import NAMES, PROMPTS, find_reader
from feedback.readers.columns.mapping import Columns, keep_present, map_records
from feedback.readers.columns.packed import unpack_tools
from feedback.readers.columns.unread import check_prompts
from feedback.readers.columns.words import is_placeholder
from feedback.readers.fields import Fields
from feedback.readers.formats.rows import read_task
from feedback.readers.garbage import pause_collection
from feedback.readers.ids import IdIndex
from feedback.readers.record import Record
from feedback.readers.scales import Scale, ScoreRange
from feedback.readers.streaming import HEAD, Stream, require_records, select_reader
from feedback.types import Episode, Task, attach_hints

NOTHING = frozenset({"nan", "NaN", "None", "null", "<NA>"})
"""What Python and pandas write for an answer that is none; a policy may well answer N/A or a dash."""
FORMATS = ("auto", *NAMES)
"""What `format` may be, beside the dotted path of a reader of your own."""


def read(
    path: str | Path,
    format: str | Reader | type[Reader] = "auto",
    scale: Scale | None = None,
    aggregate: str = "mean",
    columns: Columns | None = None,
) -> list[Episode]:
    """All episodes of a file, scores mapped from `scale` (lowest, highest) to [0, 1], each task with its hints.

    Comparisons become scores, the win rates, where an answer has no score of its own. Warns how far annotators differ.

    Args:
        path: a file, a folder that `datasets` saved, or `hf:ORG/NAME`.
        format: one of `FORMATS`, the dotted path of a `Reader`, or a reader.
        scale: lowest and highest possible score; None where they lie in [0, 1] or the format fixes them.
        aggregate: what becomes of several annotators' scores of one thing: mean, majority, first, or each.
        columns: for fields that the file has under other names, their columns: `{"prompt": "Question"}`.

    Raises:
        DataError: the first thing wrong: a missing or empty file, bad JSON or encoding, a wrong type, a row without
            response, a score that is not finite or off the scale, a repeated id, an argument that makes no sense,
            columns that fit no format, feedback in columns that nothing reads.
    """
    return read_with_report(path, format, scale, aggregate=aggregate, columns=columns)[0]


@pause_collection()
def read_with_report(
    path: str | Path,
    format: str | Reader | type[Reader] = "auto",
    scale: Scale | None = None,
    lenient: bool = False,
    aggregate: str = "mean",
    columns: Columns | None = None,
) -> tuple[list[Episode], list[DataError]]:
    """The episodes that could be read, and one fault for each record that was refused (see its `others`).

    Without `lenient` the first fault is raised instead.
    """
    check_rule(aggregate)
    episodes: list[Episode] = []
    refused: list[DataError] = []
    for item in Stream(path, format, scale, columns):
        if isinstance(item, Episode):
            episodes.append(item)
        elif lenient:
            refused.append(item)
        else:
            raise item
    differ = measure_disagreement(episodes)
    if differ.num_unequal:
        warnings.warn(f"{path}: {differ}; taken together by the rule: {aggregate}", stacklevel=4)
    if empty := count_placeholders(episodes):
        told = ", ".join(f"{format_value(text)} ({count})" for text, count in empty.items())
        warnings.warn(f"{path}: words that say nothing are taught as words: {told}; leave them empty", stacklevel=4)
    return attach_hints(add_win_rates(aggregate_scores(episodes, aggregate))), refused


def count_placeholders(episodes: Iterable[Episode]) -> Counter[str]:
    """How often a critique, a revision or an answer is what stands for none, such as "N/A" or pandas' "nan"."""
    found: Counter[str] = Counter()
    for episode in episodes:
        answers = {turn.text for turn in episode.turns} & NOTHING
        texts = [*answers, *(text for item in episode.feedback for text in (item.text, item.revision))]
        found.update(text for text in texts if text is not None and is_placeholder(text))
    return found


def stream(
    path: str | Path,
    format: str | Reader | type[Reader] = "auto",
    scale: Scale | None = None,
    columns: Columns | None = None,
) -> Stream:
    """Each record of a file in order: its episodes, or the fault that refused it; see `Stream` for its counts.

    Memory grows by eight bytes a row; formats without a fast reader keep every id. Where no scale is declared the file
    is first read through, since only the range of all scores shows whether they lie in [0, 1]. Nothing is aggregated.
    Raises `DataError` for a file that cannot be read at all, and for a `format` or `scale` that makes no sense.
    """
    return Stream(path, format, scale, columns)


def detect(path: str | Path) -> str:
    """The format's name, by the first whole record. Raises `DataError` for a file without one."""
    return select_reader(path).name


def read_tasks(path: str | Path, columns: Columns | None = None) -> list[Task]:
    """The prompts of a file of rows that need no response: `id`, `task`, `prompt`, `reference`, further columns.

    `columns` are as in `read`; those that a file of prompts lacks are passed over. The id is kept as `meta["id"]`.
    Raises `DataError` as `read` does.
    """
    tasks: list[Task] = []
    ids = IdIndex()
    present = keep_present(list(islice(require_records(path), HEAD)), columns or {})
    head: list[tuple[Record, Task]] = []
    for record in map_records(require_records(path), present):
        if record.error:
            raise record.error
        fields = Fields(record, ScoreRange())
        unpack_tools(fields)
        name = fields.get_label("id") or record.name
        task = read_task(fields)
        if (line := ids.find_duplicate(name, record.line)) is not None:
            fields.refuse("id", name, f"an id of its own: {record.unit} {line} has this one", "Number the rows anew.")
        if fields.faults:
            raise fields.faults[0]
        head += [(record, task)] if len(tasks) < HEAD else []
        tasks.append(replace(task, meta=task.meta | record.notes | {"id": name}))
    check_prompts(str(path), PROMPTS, head, columns or {})
    return tasks
