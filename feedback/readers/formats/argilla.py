"""Argilla's flat export: `QUESTION.responses`, `.responses.users`, `.responses.status`, `.suggestion` and its `.agent`.

Only submitted responses count; a suggestion is a model's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from feedback.readers.base import Format, read_id
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import Form, configure_format
from feedback.types import Episode, Feedback

ASKED, SUGGESTED = ".responses", ".suggestion"
SUBMITTED = "submitted"


def read_argilla(fields: Fields, form: Form = Form()) -> list[Episode]:
    """One record with the answers of every annotator, and those that a model suggested."""
    questions = [name.removesuffix(ASKED) for name in fields.value if name.endswith(ASKED)]
    suggested = [name.removesuffix(SUGGESTED) for name in fields.value if name.endswith(SUGGESTED)]
    known = [name for name in fields.value if ASKED in name or SUGGESTED in name]
    task, turns = form.read_task(fields, ("id", *known))
    feedback: list[Feedback] = []
    for question in questions:
        feedback += _read_answers(fields, form, question)
    for question in suggested:
        given = fields.replace_values({question: fields.get(question + SUGGESTED)})
        item = form.read_judgement(given, question, "llm", fields.get_label(f"{question}{SUGGESTED}.agent"))
        feedback += [item] if item else []
    return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


def _read_answers(fields: Fields, form: Form, question: str) -> list[Feedback]:
    values = fields.get_list(question + ASKED)
    users, states = (fields.get_list(f"{question}{ASKED}.{part}") for part in ("users", "status"))
    for name, column in (("users", users), ("status", states)):
        if column and len(column) != len(values):
            fields.refuse(f"{question}{ASKED}.{name}", f"{len(column)} items", f"{len(values)}, one a response")
    found = []
    for number, value in enumerate(values):
        if number < len(states) and states[number] != SUBMITTED:
            continue
        given = fields.replace_values({question: value, "user": users[number] if number < len(users) else None})
        item = form.read_judgement(given, question, "human", given.get_label("user"))
        found += [item] if item else []
    return found


def _has_questions(record: dict[str, Any]) -> bool:
    return any(name.endswith(ASKED) and name + ".status" in record for name in record)


def make_argilla(form: Form) -> Format:
    """The format for a form with these roles."""
    return Format(
        "argilla",
        partial(read_argilla, form=form),
        detect=_has_questions,
        declared=True,
        configured=lambda words: configure_format(ARGILLA, make_argilla, words),
    )


ARGILLA = make_argilla(Form())
