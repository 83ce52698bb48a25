"""Argilla's flat export: `QUESTION.responses`, `.responses.users`, `.responses.status`, `.suggestion` and its `.agent`.

Its other exports are read alike (`argilla_nested`). Only submitted responses count; a suggestion is a model's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from feedback.forms.tasks import POINTS, RECORD
from feedback.readers.base import read_id
from feedback.readers.fields import Fields
from feedback.readers.formats.argilla_nested import flatten, is_nested
from feedback.readers.formats.questions import FormReader
from feedback.readers.formats.returned import is_returned, read_returned
from feedback.types import Episode, Feedback

RESPONSES = ".responses"
SUGGESTION = ".suggestion"
SUBMITTED = "submitted"


class Argilla(FormReader):
    """One record with the answers of every annotator, and those that a model suggested."""

    name = "argilla"

    def is_match(self, record: dict[str, Any]) -> bool:
        """Some question has responses with their status, or fdt made the record."""
        if (RECORD in record and POINTS in record) or is_nested(record):
            return True
        return any(name.endswith(RESPONSES) and name + ".status" in record for name in record)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        if is_returned(fields):
            return self._read_own(fields)
        fields = fields.replace_values(flatten(fields.value))
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
        read = {item.name for item in feedback}
        answers = {name: [value for _, value in self._list_submitted(fields, name)] for name in questions}
        notes = {name: values for name, values in answers.items() if name not in read and any(values)}
        task = replace(task, meta=task.meta | notes)  # rankings, several labels, spans
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]

    def _read_own(self, fields: Fields) -> list[Episode]:
        """A record that fdt made, with the submitted answers of each person."""
        try:
            carried = {name: json.loads(fields.get_text(name) or "null") for name in (RECORD, POINTS)}
        except (ValueError, RecursionError):
            fields.refuse(RECORD, fields.get(RECORD), "the JSON that `fdt data convert --to argilla` put there")
            return []
        answers: dict[str | None, list[tuple[str, Any]]] = {}
        for name in fields.value:
            question = name.removesuffix(RESPONSES)
            if question != name:
                for user, value in self._list_submitted(fields, question):
                    answers.setdefault(user, []).append((question, value))
        return read_returned(fields.replace_values(carried), answers.items())

    def _list_submitted(self, fields: Fields, question: str) -> list[tuple[str | None, Any]]:
        """Who submitted which answer to a question."""
        values = fields.get_list(question + RESPONSES)
        users, states = (fields.get_list(f"{question}{RESPONSES}.{part}") for part in ("users", "status"))
        for name, column in (("users", users), ("status", states)):
            if column and len(column) != len(values):
                fields.refuse(f"{question}{RESPONSES}.{name}", f"{len(column)} items", f"{len(values)}, one a response")
        kept = [n for n in range(len(values)) if n >= len(states) or states[n] == SUBMITTED]
        return [(str(users[n]) if n < len(users) and users[n] is not None else None, values[n]) for n in kept]

    def _read_answers(self, fields: Fields, question: str) -> list[Feedback]:
        found = []
        for user, value in self._list_submitted(fields, question):
            given = fields.replace_values({question: value, "user": user})
            item = self.read_judgement(given, question, "human", given.get_label("user"))
            found += [item] if item else []
        return found
