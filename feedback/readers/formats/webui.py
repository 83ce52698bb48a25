"""Open WebUI's exported chats: a thumb up or down, a reason and a comment on single answers."""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

THUMBS = (-1.0, 1.0)


class OpenWebUI(Reader):
    """One chat with the feedback on its answers."""

    name = "open-webui"
    columns = ("chat",)
    takes_scale = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """An object `chat`."""
        return isinstance(record.get("chat"), dict)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        given = fields.get_object("chat")
        found = chat.read_messages(given, "messages", allow_unknown=True)
        start = next((n for n, message in enumerate(found) if message["role"] == "assistant"), len(found))
        messages = chat.check_prompt(given, "messages", found[:start])
        if start == len(found):
            given.refuse("messages", [message["role"] for message in found], "a message of the assistant")
        answers = [item for item in given.get_objects("messages")[start:] if item.get("role") == "assistant"]
        feedback = [
            _read_judgement(item.get_object("annotation"), turn, fields.get_label("user_id"))
            for turn, item in enumerate(answers)
            if item.get("annotation") is not None
        ]
        task = build_task(fields, messages, ("id", "chat", "user_id"))
        turns = tuple(chat.to_turn(message) for message in found[start:])
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


def _read_judgement(item: Fields, turn: int, annotator: str | None) -> Feedback:
    score, scale = item.get_score("rating", THUMBS)
    words = ": ".join(filter(None, (item.get_text("reason"), item.get_text("comment"))))
    return Feedback("human", annotator, "rating", score, words or None, turn, scale=scale)
