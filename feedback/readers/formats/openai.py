"""OpenAI's preference records: `input.messages`, `preferred_output`, `non_preferred_output`.

Its chat records (`messages`) are episodes without feedback, and read as such.
"""

from __future__ import annotations

from feedback.readers import chat
from feedback.readers.base import Reader, build_pair, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode

KNOWN = ("id", "input", "preferred_output", "non_preferred_output")


class OpenAIPreference(Reader):
    """The two outputs, the first preferred; what else the input holds, tools among it, becomes meta."""

    name = "openai-preference"
    columns = ("input", "preferred_output", "non_preferred_output")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """The preferred episode and the other."""
        given = fields.get_object("input")
        messages = chat.read_prompt(given, "messages")
        task = build_task(fields, messages, KNOWN, notes=given.collect_rest(("messages",)))
        chosen = chat.read_answer(fields, "preferred_output")
        rejected = chat.read_answer(fields, "non_preferred_output")
        return build_pair(read_id(fields, "id"), task, chosen, rejected)
