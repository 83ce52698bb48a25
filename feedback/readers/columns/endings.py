"""How an answer ended: whether a record says, under one of the names in use, that it was cut off."""

from __future__ import annotations

from dataclasses import replace

from feedback.readers.columns.words import parse_flag
from feedback.readers.fields import Fields
from feedback.types import Episode

WHOLE = ("finished", "is_finished", "completed", "is_completed", "is_complete")
"""Columns whose false says that the answer was cut off."""
CUT = ("truncated", "is_truncated", "was_truncated", "cut_off", "is_cut_off")
"""Columns whose true says so."""
PLAIN = ("finished", "is_finished", "truncated", "is_truncated")
"""Those of them that mean nothing else, so that a value that is neither true nor false is refused."""
REASONS = ("finish_reason", "stop_reason")
"""Columns that say why the answer ended."""
CUT_REASONS = ("length", "max_tokens", "max_length", "max_output_tokens", "model_length", "truncated", "incomplete")
"""Reasons that mean it was cut off, as OpenAI, Anthropic, Google, Hugging Face and vLLM write them."""
COLUMNS = frozenset((*WHOLE, *CUT, *REASONS))


def note_endings(fields: Fields, episodes: list[Episode]) -> list[Episode]:
    """The episodes of a record, cut off where the record says so; the flags that said it are then no notes any more."""
    if COLUMNS.isdisjoint(fields.value):
        return episodes
    flags = {name: _read_flag(fields, name) for name in (*WHOLE, *CUT)}
    reasons = {str(fields.value.get(name)).strip().lower() for name in REASONS}
    is_cut = not reasons.isdisjoint(CUT_REASONS)
    is_cut = is_cut or any(flags[name] is False for name in WHOLE) or any(flags[name] for name in CUT)
    read = {name for name, value in flags.items() if value is not None}
    found = []
    for episode in episodes:
        meta = {name: value for name, value in episode.task.meta.items() if name not in read}
        task = replace(episode.task, meta=meta)
        found.append(replace(episode, task=task, finished=episode.finished and not is_cut))
    return found


def _read_flag(fields: Fields, name: str) -> bool | None:
    return fields.get_flag(name) if name in PLAIN else parse_flag(fields.value.get(name))
