"""How an answer ended: whether a record says, under one of the names in use, that it was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from feedback.readers.columns.words import parse_flag
from feedback.readers.fields import Fields
from feedback.types import Episode

WHOLE = frozenset({"finished", "isfinished", "completed", "iscompleted", "iscomplete"})
"""Columns whose false says that the answer was cut off; letters alone, in lower case, so that `isTruncated`,
`is_truncated` and `Is truncated` are one."""
CUT = frozenset({"truncated", "istruncated", "wastruncated", "cutoff", "iscutoff", "isincomplete", "unfinished"})
"""Columns whose true says so."""
PLAIN = frozenset({"finished", "isfinished", "truncated", "istruncated"})
"""Those of them that mean nothing else, so that a value that is neither true nor false is refused."""
REASONS = frozenset({"finishreason", "stopreason", "donereason"})
"""Columns that say why the answer ended."""
CUT_REASONS = frozenset(
    {"length", "maxtokens", "maxlength", "maxoutputtokens", "modellength", "tokenlimit", "truncated", "incomplete"}
)
"""Reasons that mean it was cut off, as OpenAI, Anthropic, Google, Hugging Face and vLLM write them."""

ANSWERS = ("messages", "response", "completion")
"""Columns whose last message is the answer."""


def note_endings(fields: Fields, episodes: list[Episode]) -> list[Episode]:
    """The episodes of a record, cut off where the record says so; the flags that said it are then no notes any more."""
    flags: dict[str, bool | None] = {}
    is_cut = False
    is_survey = "ResponseId" in fields.value  # Qualtrics: `Finished` says whether the form was filled in
    for name in fields.value:
        short = "" if is_survey else squeeze(name)
        if short in WHOLE or short in CUT:
            flags[name] = _read_flag(fields, name, short)
            is_cut |= flags[name] is (short in CUT)
        elif short in REASONS:
            is_cut |= squeeze(str(fields.value[name])) in CUT_REASONS
    is_cut |= any(squeeze(str(reason)) in CUT_REASONS for reason in _iter_inner_reasons(fields.value))
    read = {name for name, value in flags.items() if value is not None}
    if not read and not is_cut:
        return episodes
    found = []
    for episode in episodes:
        meta = {name: value for name, value in episode.task.meta.items() if name not in read}
        task = replace(episode.task, meta=meta)
        found.append(replace(episode, task=task, finished=episode.finished and not is_cut))
    return found


def _iter_inner_reasons(record: dict[str, Any]) -> Iterator[Any]:
    """Why the answer ended, as the notes of a record say it, or the last message of its answer."""
    for name, value in record.items():
        if isinstance(value, list) and name in ANSWERS:
            value = value[-1] if value else None
        if isinstance(value, dict):
            yield from (reason for inner, reason in value.items() if squeeze(inner) in REASONS)


@cache
def tells_ending(name: str) -> bool:
    """Whether a column of this name says how an answer ended."""
    return squeeze(name) in WHOLE | CUT | REASONS


def squeeze(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _read_flag(fields: Fields, name: str, short: str) -> bool | None:
    return fields.get_flag(name) if short in PLAIN else parse_flag(fields.value.get(name))
