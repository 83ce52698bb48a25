"""The fast way to read a canonical row: `msgspec` checks it whole, and says nothing about what is wrong."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from feedback.faults import format_value
from feedback.readers import chat
from feedback.readers.base import FastReader
from feedback.readers.columns import endings
from feedback.readers.columns.packed import MESSAGES, TOOLS
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode, Feedback, Task, Turn, hash_prompt, hash_text

COLUMNS = (
    "id",
    "task",
    "prompt",
    "response",
    "score",
    "critique",
    "revision",
    "reference",
    "annotator",
    "finished",
    "source",
    "scores",
    "preferences",
)
KNOWN = frozenset(COLUMNS)


class PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A plain message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Row(msgspec.Struct):
    """A row with nothing wrong in it, as `msgspec` can tell without explaining anything."""

    prompt: str | list[PlainMessage]
    response: str
    id: str | int | None = None
    task: str | int | None = None
    score: float | None = None
    critique: str | None = None
    revision: str | None = None
    reference: str | None = None
    annotator: str | int | None = None
    finished: bool | None = None
    source: Literal["human", "llm", "environment", "policy"] | None = None
    scores: None = None
    preferences: None = None


class _RowHeader(msgspec.Struct):
    """What a first pass looks at."""

    id: str | int | None = None
    score: float | None = None
    scores: None = None


HEADER_DECODER = msgspec.json.Decoder(_RowHeader)


def _decode_header(raw: bytes) -> dict[str, Any] | None:
    """The id and the score of a line, the rest skipped; None for a line that needs the slow way."""
    try:
        row = HEADER_DECODER.decode(raw)
        return {"id": row.id, "score": row.score}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _observe_score(record: Record, score_range: ScoreRange) -> str | None:
    name = record.fields.get("id")
    score = record.fields.get("score")
    if record.fields.get("scores") is not None or type(name) not in (str, int, type(None)):
        return None
    if score is not None:
        if type(score) not in (float, int) or not -math.inf < score < math.inf:
            return None
        if score_range.declared_scale is None:
            score_range.add_score(score)
    return _to_id(name) or record.name


def _parse_row(record: Record, score_range: ScoreRange) -> Episode | None:
    fields = record.fields
    try:
        row = msgspec.convert(fields, Row)
    except (msgspec.ValidationError, RecursionError):
        return None
    if not row.prompt or not row.response or _is_packed(row.prompt) or _is_packed(row.response):
        return None
    is_plain = fields.keys() <= KNOWN
    if not is_plain and any(_says_something(name, fields[name]) for name in fields.keys() - KNOWN):
        return None  # further columns that say something take the slow way
    score = row.score
    scale = None
    if score is None:
        score = math.nan
    else:
        scale = score_range.declared_scale
        if scale is not None:
            score = (score - scale[0]) / (scale[1] - scale[0])
        if score_range.is_out_of_range or not 0 <= score <= 1:
            return None
    if type(row.prompt) is str:
        messages = chat.build_user_prompt(row.prompt)
        key = hash_text(row.prompt)
    else:
        messages = tuple(fields["prompt"])
        if messages[-1]["role"] not in ("user", "tool") or all(message["role"] != "user" for message in messages):
            return None
        if messages[-1]["role"] == "user" and not messages[-1]["content"]:
            return None
        key = hash_prompt(messages)
    meta = (
        {} if is_plain else {name: value for name, value in fields.items() if value is not None and name not in KNOWN}
    )
    task = Task(_to_id(row.task) or key, messages, row.reference or None, (), meta)
    feedback = _read_feedback(row, score, scale)
    turns = (Turn("assistant", row.response),)
    return Episode(_to_id(row.id) or record.name, task, turns, feedback, finished=row.finished is not False)


def _says_something(name: str, value: Any) -> bool:
    """Whether a further column is more than a note: tools, or how the answer ended."""
    inner = type(value) is dict and any(map(endings.tells_ending, value))
    return inner or name == TOOLS or endings.tells_ending(name)


def _is_packed(text: str | list[PlainMessage]) -> bool:
    """Whether prompt or response are messages as JSON text."""
    return type(text) is str and text[0] in "[{ \t\r\n" and MESSAGES.match(text) is not None


def _read_feedback(row: Row, score: float, scale: tuple[float, float] | None) -> tuple[Feedback, ...]:
    judged = row.score is not None or row.critique is not None or row.revision is not None
    if not judged and row.annotator is None and row.source is None:
        return ()
    source = row.source or "human"
    annotator = _to_id(row.annotator)
    revision = row.revision or None
    return (Feedback(source, annotator, "score", score, row.critique or None, None, revision, scale),)


def _to_id(value: str | int | None) -> str | None:
    return format_value(value) if isinstance(value, int) else value or None


FAST = FastReader(_decode_header, _observe_score, _parse_row)
