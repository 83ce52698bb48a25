"""The texts that a task shows of an episode, and the record that it carries along."""

from __future__ import annotations

import json
import math
from typing import Any

from feedback.forms.tasks import RECORD
from feedback.readers.formats.episodes import build_record
from feedback.types import Episode, Feedback


def build_texts(episode: Episode) -> dict[str, Any]:
    """The texts of a task: `prompt` and `response` as text, the whole as `dialog`, what was said of it as `given`."""
    record = build_record(episode)
    size = len(episode.task.messages)
    lines = [{"author": message["role"], "text": _format_message(message)} for message in record["messages"]]
    return {
        "prompt": _join(lines[:size]),
        "response": _join(lines[size:]),
        "dialog": lines,
        "given": "\n\n".join(filter(None, (_format_feedback(item) for item in episode.feedback))),
        RECORD: record,
    }


def _join(lines: list[dict[str, str]]) -> str:
    """One line's text as it is; of several each under its role."""
    if len(lines) == 1:
        return lines[0]["text"]
    return "\n\n".join(f"{line['author']}: {line['text']}" for line in lines)


def _format_message(message: dict[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    words = [message["content"], *(f"calls {call['name']}({_to_text(call['arguments'])})" for call in calls)]
    return "\n".join(filter(None, words))


def _to_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _format_feedback(item: Feedback) -> str:
    where = "" if item.turn is None else f" on turn {item.turn + 1}"
    score = "" if math.isnan(item.score) else f" {item.name} {item.score:.2f} of 1"
    words = "".join(f"\n{text}" for text in (item.text, item.revision) if text)
    return f"{item.annotator or item.source}{where}:{score}{words}" if score or words else ""
