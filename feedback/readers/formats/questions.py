"""What annotation tools share: a form shows a prompt and a response, and asks for ratings, critiques and revisions.

A number is a rating, and so is a one-word verdict such as "good". Another text is a critique, or a revision where the
question's name says so. `format: "argilla:..."` or `"label-studio:..."` names them instead:
`prompt=COLUMN,response=COLUMN,score=QUESTION,critique=QUESTION,revision=QUESTION`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task
from feedback.readers.columns.names import find_kind, split_name
from feedback.readers.columns.words import parse_verdict
from feedback.readers.fields import Fields
from feedback.types import Feedback, Message, Task, Turn

PROMPTS = ("prompt", "instruction", "question", "input", "messages", "chat")
RESPONSES = ("response", "answer", "output", "completion", "generation")
WORDS = frozenset(
    "comment comments critique critiques why explanation rationale justification reason reasons remark remarks".split()
)
"""Words of a question that asks for words, where "wrong" is no verdict."""
REVISED = ("revis", "correct", "edit", "rewrit", "improve", "better")


@dataclass(frozen=True)
class FormReader(Reader):
    """A reader that knows which columns and questions of a form are which."""

    prompt: str | None = None
    """Column of the prompt; null: the first of the usual names."""
    response: str | None = None
    """Column of the response; null: the first of the usual names."""
    score: str | None = None
    """Question whose answer is a rating; a text that is none is then refused."""
    critique: str | None = None
    """Question whose text is a critique, whatever its name says."""
    revision: str | None = None
    """Question whose text is a revision."""

    def find_columns(self, fields: Fields) -> tuple[str, str]:
        """The columns of prompt and response."""
        return _find_column(fields, self.prompt, PROMPTS), _find_column(fields, self.response, RESPONSES)

    def read_task(self, fields: Fields, known: tuple[str, ...]) -> tuple[Task, tuple[Turn, ...]]:
        """Task and answer of a form's fields; further fields become meta."""
        prompt, response = self.find_columns(fields)
        messages: tuple[Message, ...] = chat.read_prompt(fields, prompt)
        return build_task(fields, messages, (*known, prompt, response)), chat.read_answer(fields, response)

    def read_judgement(self, fields: Fields, question: str, source: str, annotator: str | None) -> Feedback | None:
        """What the value of a question says; None for what is neither number nor text."""
        value = fields.get(question)
        is_words = isinstance(value, str) and not WORDS.isdisjoint(split_name(question))
        is_text = question in (self.critique, self.revision) or (question != self.score and is_words)
        if not is_text and (question == self.score or _is_rating(fields, value)):
            score, scale = fields.get_score(question, allow_text=True)
            return Feedback(source, annotator, question, score, scale=scale)
        if not isinstance(value, str):
            return None
        if question == self.revision or (question != self.critique and any(part in question for part in REVISED)):
            return Feedback(source, annotator, question, math.nan, revision=value or None)
        return Feedback(source, annotator, question, math.nan, value or None)


def _is_rating(fields: Fields, value: Any) -> bool:
    """Whether a value is a number, also as the text of a table, or a verdict of one word."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    in_table = fields.record.is_text_only and find_kind([value]) == "score"
    return isinstance(value, str) and (in_table or parse_verdict(value) is not None)


def _find_column(fields: Fields, named: str | None, usual: tuple[str, ...]) -> str:
    return named or next((name for name in usual if fields.get(name) is not None), usual[0])
