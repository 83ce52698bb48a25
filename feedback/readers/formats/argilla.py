"""Argilla's flat export: `QUESTION.responses`, `.responses.users`, `.responses.status`, `.suggestion` and its `.agent`.

Only submitted responses count; a suggestion is a model's.
"""

from __future__ import annotations

from typing import Any

from feedback.readers.base import read_id
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import FormReader
from feedback.types import Episode, Feedback

RESPONSES = ".responses"
SUGGESTION = ".suggestion"
SUBMITTED = "submitted"


class Argilla(FormReader):
    """One record with the answers of every annotator, and those that a model suggested."""

    name = "argilla"

    def is_match(self, record: dict[str, Any]) -> bool:
        """Some question has responses with their status."""
        return any(name.endswith(RESPONSES) and name + ".status" in record for name in record)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        questions = [name.removesuffix(RESPONSES) for name in fields.value if name.endswith(RESPONSES)]
        suggested = [name.removesuffix(SUGGESTION) for name in fields.value if name.endswith(SUGGESTION)]
        known = [name for name in fields.value if RESPONSES in name or SUGGESTION in name]
        task, turns = self.read_task(fields, ("id", *known))
        feedback: list[Feedback] = []
        for question in questions:
            feedback += self._read_answers(fields, question)
        for question in suggested:
            given = fields.replace_values({question: fields.get(question + SUGGESTION)})
            item = self.read_judgement(given, question, "llm", fields.get_label(f"{question}{SUGGESTION}.agent"))
            feedback += [item] if item else []
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]

    def _read_answers(self, fields: Fields, question: str) -> list[Feedback]:
        values = fields.get_list(question + RESPONSES)
        users, states = (fields.get_list(f"{question}{RESPONSES}.{part}") for part in ("users", "status"))
        for name, column in (("users", users), ("status", states)):
            if column and len(column) != len(values):
                fields.refuse(f"{question}{RESPONSES}.{name}", f"{len(column)} items", f"{len(values)}, one a response")
        found = []
        for number, value in enumerate(values):
            if number < len(states) and states[number] != SUBMITTED:
                continue
            given = fields.replace_values({question: value, "user": users[number] if number < len(users) else None})
            item = self.read_judgement(given, question, "human", given.get_label("user"))
            found += [item] if item else []
        return found
