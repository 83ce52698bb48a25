"""OpenClaw-RL's logs (arXiv 2603.10165): `NAME_record.jsonl`, merged with the judgements of `NAME_record_prm.jsonl`.

The server clears both when it starts, so copy them first. `next_state`, what the user or the tools said next, is a
critique; a judgement is a score of -1, 0 or 1, or a hint that counts where it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.readers.files import read_records
from feedback.readers.record import Record
from feedback.types import Episode, Feedback, Turn

SCORE_SCALE = (-1.0, 1.0)
KNOWN = ("messages", "prompt_text", "response_text", "tool_calls", "next_state", "judgements")
ENDING = "_record.jsonl"


class OpenClaw(Reader):
    """One turn of a session."""

    name = "openclaw"
    columns = ("session_id", "turn", "messages", "response_text")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        task = build_task(fields, chat.read_prompt(fields, "messages", allow_unknown=True), KNOWN)
        turn = fields.replace_values(
            {"role": "assistant", "content": fields.get("response_text") or "", "tool_calls": fields.get("tool_calls")}
        )
        message = chat.read_message(turn)
        if not message["content"] and "tool_calls" not in message:
            fields.refuse("response_text", fields.get("response_text"), "text, or tool calls beside it")
        feedback = [item for given in fields.get_objects("judgements") for item in _read_judgement(given)]
        session = fields.get_label("session_id")
        own_id = f"{session}/{fields.get_label('turn')}" if session else read_id(fields)
        turns: tuple[Turn, ...] = (chat.to_turn(message),)
        return [Episode(own_id, task, turns, (*_read_next_state(fields), *feedback))]

    def merge(self, path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
        """Each record with its judgements, by session and turn, where the other file lies beside this one."""
        judged: dict[tuple[str, str], list[dict[str, Any]]] = {}
        other = Path(str(path).removesuffix(ENDING) + ENDING.replace(".", "_prm."))
        if str(path).endswith(ENDING) and other.is_file():
            for record in read_records(other):
                if record.error:
                    raise record.error
                judged.setdefault(_get_turn_key(record), []).append(record.fields)
        for record in records:
            if not record.error and judged.get(_get_turn_key(record)):
                record.fields = record.fields | {"judgements": judged[_get_turn_key(record)]}
            yield record


def _read_next_state(fields: Fields) -> tuple[Feedback, ...]:
    given = fields.get("next_state")
    if isinstance(given, str):
        return (Feedback("environment", None, "next_state", text=given),) if given else ()
    state = fields.get_object("next_state")
    source = "human" if state.get("role") == "user" else "environment"
    text = "".join(state.get_texts("content"))
    return (Feedback(source, None, "next_state", text=text),) if text else ()


def _read_judgement(given: Fields) -> tuple[Feedback, ...]:
    score, scale = given.get_score("score", SCORE_SCALE)
    hint = given.get_text("hint") if given.get_flag("accepted") is not False else None
    text = given.get_text("representative_eval")
    found = (Feedback("llm", None, "outcome", score, text, scale=scale),) if scale or text else ()
    return (*found, Feedback("llm", None, "hint", text=hint)) if hint else found


def _get_turn_key(record: Record) -> tuple[str, str]:
    return str(record.fields.get("session_id")), str(record.fields.get("turn"))
