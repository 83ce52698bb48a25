"""OpenAI's preference records: `input.messages`, `preferred_output`, `non_preferred_output`.

Its chat records (`messages`) are episodes without feedback, and read as such.
"""

from __future__ import annotations

from feedback.readers import chat
from feedback.readers.base import Format, name_of, pair, task_of
from feedback.readers.fields import Fields
from feedback.types import Episode

KNOWN = ("id", "input", "preferred_output", "non_preferred_output")


def preference_episodes(fields: Fields) -> list[Episode]:
    """The two outputs, the first preferred; what else the input holds, tools among it, becomes meta."""
    asked = fields.at("input")
    task = task_of(fields, chat.prompt(asked, "messages"), KNOWN, notes=asked.rest(("messages",)))
    chosen, rejected = chat.answer(fields, "preferred_output"), chat.answer(fields, "non_preferred_output")
    return pair(name_of(fields, "id"), task, chosen, rejected)


OPENAI = Format("openai-preference", preference_episodes, ("input", "preferred_output", "non_preferred_output"))
