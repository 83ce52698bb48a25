"""OpenClaw-RL's logs (arXiv 2603.10165): `NAME_record.jsonl`, joined with the judgements of `NAME_record_prm.jsonl`.

The server clears both when it starts, so copy them first. `next_state`, what the user or the tools said next, is a
critique; a judgement is a score of -1, 0 or 1, or a hint that counts where it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Format, name_of, task_of
from feedback.readers.fields import Fields
from feedback.readers.files import records as read_records
from feedback.readers.record import Record
from feedback.types import Episode, Feedback, Turn

SCORE_SCALE = (-1.0, 1.0)
KNOWN = ("messages", "prompt_text", "response_text", "tool_calls", "next_state", "judgements")
ENDING = "_record.jsonl"


def openclaw_episodes(fields: Fields) -> list[Episode]:
    """One turn of a session."""
    task = task_of(fields, chat.prompt(fields, "messages", loose=True), KNOWN)
    turn = fields.holding(
        {"role": "assistant", "content": fields.get("response_text") or "", "tool_calls": fields.get("tool_calls")}
    )
    message = chat.message(turn)
    if not message["content"] and "tool_calls" not in message:
        fields.refuse("response_text", fields.get("response_text"), "text, or tool calls beside it")
    feedback = [item for given in fields.items("judgements") for item in _judgement(given)]
    session = fields.label("session_id")
    name = f"{session}/{fields.label('turn')}" if session else name_of(fields)
    turns: tuple[Turn, ...] = (chat.turn_of(message),)
    return [Episode(name, task, turns, (*_next(fields), *feedback))]


def _next(fields: Fields) -> tuple[Feedback, ...]:
    given = fields.get("next_state")
    if isinstance(given, str):
        return (Feedback("environment", None, "next_state", text=given),) if given else ()
    state = fields.at("next_state")
    source = "human" if state.get("role") == "user" else "environment"
    text = "".join(state.texts("content"))
    return (Feedback(source, None, "next_state", text=text),) if text else ()


def _judgement(given: Fields) -> tuple[Feedback, ...]:
    score, scale = given.mark("score", SCORE_SCALE)
    hint = given.text("hint") if given.flag("accepted") is not False else None
    said = given.text("representative_eval")
    found = (Feedback("llm", None, "outcome", score, said, scale=scale),) if scale or said else ()
    return (*found, Feedback("llm", None, "hint", text=hint)) if hint else found


def joined(path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
    """Each record with its judgements, by session and turn, where the other file lies beside this one."""
    judged: dict[tuple[str, str], list[dict[str, Any]]] = {}
    other = Path(str(path).removesuffix(ENDING) + ENDING.replace(".", "_prm."))
    if str(path).endswith(ENDING) and other.is_file():
        for record in read_records(other):
            if record.broken:
                raise record.broken
            judged.setdefault(_place(record), []).append(record.fields)
    for record in records:
        if not record.broken and judged.get(_place(record)):
            record.fields = record.fields | {"judgements": judged[_place(record)]}
        yield record


def _place(record: Record) -> tuple[str, str]:
    return str(record.fields.get("session_id")), str(record.fields.get("turn"))


OPENCLAW = Format("openclaw", openclaw_episodes, ("session_id", "turn", "messages", "response_text"), join=joined)
