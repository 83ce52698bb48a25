"""UltraFeedback (arXiv 2310.01377): its records, its binarized comparisons and its critiques. The judge is a model."""

from __future__ import annotations

import math

from feedback.readers import chat
from feedback.readers.base import Reader, build_pair, build_task, read_id
from feedback.readers.fields import Fields
from feedback.readers.formats.trl import read_comparison
from feedback.types import Episode, Feedback, Message

ASPECT_SCALE = (1.0, 5.0)
OVERALL_SCALE = (1.0, 10.0)
JUDGEMENT = ("response", "critique", "annotations", "overall_score")
ABSENT = ("N/A", "")


class UltraFeedback(Reader):
    """The completions of one instruction, each with ratings by aspect (1 to 5), a critique and an overall score."""

    name = "ultrafeedback"
    columns = ("instruction", "completions")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """An episode for each completion."""
        messages = chat.build_user_prompt(fields.get_text("instruction", required=True) or "")
        found = fields.get_objects("completions")
        if not found:
            fields.refuse("completions", fields.get("completions"), "at least one completion")
        name = read_id(fields, "id")
        return [_read_completion(fields, item, f"{name}/{number}", messages) for number, item in enumerate(found, 1)]


class UltraFeedbackBinarized(Reader):
    """The better and the worse completion with their overall scores."""

    name = "ultrafeedback-binarized"
    columns = ("chosen", "rejected", "score_chosen", "score_rejected")

    def parse(self, fields: Fields) -> list[Episode]:
        """The better episode and the worse."""
        known = ("prompt_id", "prompt", "chosen", "rejected", "messages", "score_chosen", "score_rejected")
        task, chosen, rejected = read_comparison(fields, known)
        # UltraFeedback's own rows have an id of the prompt; anybody's scores of a pair are on the declared scale.
        scale = OVERALL_SCALE if "prompt_id" in fields.value and fields.score_range.declared_scale is None else None
        scores = [fields.get_score(name, scale) for name in ("score_chosen", "score_rejected")]
        good, bad = ((Feedback("llm", None, "overall", score, scale=scale),) for score, scale in scores)
        return build_pair(read_id(fields, "id"), task, chosen, rejected, (good, bad))


class UltraFeedbackCritique(Reader):
    """One response with its critique and overall score, flat."""

    name = "ultrafeedback-critique"
    columns = ("instruction", "response", "critique", "overall_score")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        messages = chat.build_user_prompt(fields.get_text("instruction", required=True) or "")
        return [_read_completion(fields, fields, read_id(fields, "id"), messages)]


def _read_completion(fields: Fields, item: Fields, name: str, messages: tuple[Message, ...]) -> Episode:
    score, scale = item.get_score("overall_score", OVERALL_SCALE, allow_text=True)
    critique = item.get_text("critique")
    feedback = (Feedback("llm", None, "overall", score, critique, scale=scale),) if critique or scale else ()
    known = ("id", "instruction", "completions", *JUDGEMENT)
    notes = {} if item is fields else item.collect_rest(JUDGEMENT)
    task = build_task(fields, messages, known, notes=notes)
    return Episode(
        name, task, chat.build_answer(item.get_text("response", required=True) or ""), feedback + _read_aspects(item)
    )


def _read_aspects(item: Fields) -> tuple[Feedback, ...]:
    found: list[Feedback] = []
    aspects = item.get_object("annotations")
    for name in aspects.value:
        given = aspects.get_object(name)
        absent = given.get("Rating") in ABSENT
        score, scale = (math.nan, None) if absent else given.get_score("Rating", ASPECT_SCALE, allow_text=True)
        words = [given.get_text(key) for key in ("Rationale", "Rationale For Rating")]
        text = "\n".join(filter(None, words)) or None
        found += [Feedback("llm", None, name, score, text, scale=scale)] if scale or text else []
    return tuple(found)
