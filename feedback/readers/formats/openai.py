"""OpenAI's preference records: `input.messages`, `preferred_output`, `non_preferred_output`.

Its chat records (`messages`) are episodes without feedback, and read as such.
"""

from __future__ import annotations

from feedback.readers import chat
from feedback.readers.base import Format, build_pair, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode

KNOWN = ("id", "input", "preferred_output", "non_preferred_output")


def read_preferences(fields: Fields) -> list[Episode]:
    """The two outputs, the first preferred; what else the input holds, tools among it, becomes meta."""
    asked = fields.get_object("input")
    task = build_task(fields, chat.read_prompt(asked, "messages"), KNOWN, notes=asked.collect_rest(("messages",)))
    chosen, rejected = chat.read_answer(fields, "preferred_output"), chat.read_answer(fields, "non_preferred_output")
    return build_pair(read_id(fields, "id"), task, chosen, rejected)


OPENAI = Format("openai-preference", read_preferences, ("input", "preferred_output", "non_preferred_output"))
