"""Prometheus' Feedback Collection (arXiv 2310.08491): one response, a critique and a score from 1 to 5, by a model."""

from __future__ import annotations

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

RESULT = "[RESULT]"
SCALE = (1.0, 5.0)
KNOWN = (
    "id",
    "instruction",
    "output",
    "orig_instruction",
    "orig_response",
    "orig_reference_answer",
    "orig_feedback",
    "orig_score",
)


class Prometheus(Reader):
    """The response with its critique and score: `orig_feedback` and `orig_score`, else what `output` says of both.

    `output` ends in the score after `[RESULT]`; `instruction` repeats the other columns in a template, and is not kept.
    """

    name = "prometheus"
    columns = ("orig_instruction", "orig_response", "output")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        words, _, digit = (fields.get_text("output") or "").rpartition(RESULT)
        if fields.get("orig_score") is not None:
            score, scale = fields.get_score("orig_score", SCALE, allow_text=True)
        else:
            stated = fields.replace_values({"output": digit.strip() or None})
            score, scale = stated.get_score("output", SCALE, allow_text=True)
        if scale is None and not fields.faults:
            fields.refuse("output", fields.get("output"), f"a critique, then {RESULT} and a score from 1 to 5")
        critique = fields.get_text("orig_feedback") or words.strip().removeprefix("Feedback:").strip() or None
        messages = chat.build_user_prompt(fields.get_text("orig_instruction", required=True) or "")
        task = build_task(fields, messages, KNOWN, fields.get_text("orig_reference_answer"))
        turns = chat.build_answer(fields.get_text("orig_response", required=True) or "")
        item = Feedback("llm", None, "score", score, critique, scale=scale)
        return [Episode(read_id(fields, "id"), task, turns, (item,))]
