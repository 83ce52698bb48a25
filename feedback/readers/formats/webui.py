"""Open WebUI's exported chats: a thumb up or down, a reason and a comment on single answers."""

from __future__ import annotations

from feedback.readers import chat
from feedback.readers.base import Format, name_of, task_of
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

THUMBS = (-1.0, 1.0)


def webui_episodes(fields: Fields) -> list[Episode]:
    """One chat with the feedback on its answers."""
    given = fields.at("chat")
    found = chat.messages(given, "messages", loose=True)
    start = next((n for n, message in enumerate(found) if message["role"] == "assistant"), len(found))
    messages = chat.asked(given, "messages", found[:start])
    if start == len(found):
        given.refuse("messages", [message["role"] for message in found], "a message of the assistant")
    answers = [item for item in given.items("messages")[start:] if item.get("role") == "assistant"]
    feedback = [
        _judgement(item.at("annotation"), step, fields.label("user_id"))
        for step, item in enumerate(answers)
        if item.get("annotation") is not None
    ]
    task = task_of(fields, messages, ("id", "chat", "user_id"))
    turns = tuple(chat.turn_of(message) for message in found[start:])
    return [Episode(name_of(fields, "id"), task, turns, tuple(feedback))]


def _judgement(item: Fields, step: int, annotator: str | None) -> Feedback:
    score, scale = item.mark("rating", THUMBS)
    words = ": ".join(filter(None, (item.text("reason"), item.text("comment"))))
    return Feedback("human", annotator, "rating", score, words or None, step, scale=scale)


WEBUI = Format("open-webui", webui_episodes, ("chat",), lambda record: isinstance(record["chat"], dict))
