"""UltraFeedback (arXiv 2310.01377): its records, its binarized comparisons and its critiques. The judge is a model."""

from __future__ import annotations

import math

from feedback.readers import chat
from feedback.readers.base import Format, name_of, pair, task_of
from feedback.readers.fields import Fields
from feedback.readers.formats.trl import compared
from feedback.types import Episode, Feedback, Message

ASPECT_SCALE = (1.0, 5.0)
OVERALL_SCALE = (1.0, 10.0)
JUDGEMENT = ("response", "critique", "annotations", "overall_score")
ABSENT = ("N/A", "")


def completion_episodes(fields: Fields) -> list[Episode]:
    """The completions of one instruction, each with ratings by aspect (1 to 5), a critique and an overall score."""
    messages = chat.user(fields.text("instruction", required=True) or "")
    found = fields.items("completions")
    if not found:
        fields.refuse("completions", fields.get("completions"), "at least one completion")
    name = name_of(fields, "id")
    return [_completion(fields, item, f"{name}/{number}", messages) for number, item in enumerate(found, 1)]


def critique_episodes(fields: Fields) -> list[Episode]:
    """One response with its critique and overall score, flat."""
    messages = chat.user(fields.text("instruction", required=True) or "")
    return [_completion(fields, fields, name_of(fields, "id"), messages)]


def binarized_episodes(fields: Fields) -> list[Episode]:
    """The better and the worse completion with their overall scores."""
    known = ("prompt_id", "prompt", "chosen", "rejected", "messages", "score_chosen", "score_rejected")
    task, chosen, rejected = compared(fields, known)
    scores = [fields.mark(name, OVERALL_SCALE) for name in ("score_chosen", "score_rejected")]
    good, bad = ((Feedback("llm", None, "overall", score, scale=scale),) for score, scale in scores)
    return pair(name_of(fields, "id"), task, chosen, rejected, (good, bad))


def _completion(fields: Fields, item: Fields, name: str, messages: tuple[Message, ...]) -> Episode:
    score, scale = item.mark("overall_score", OVERALL_SCALE, written=True)
    critique = item.text("critique")
    feedback = (Feedback("llm", None, "overall", score, critique, scale=scale),) if critique or scale else ()
    known = ("id", "instruction", "completions", *JUDGEMENT)
    notes = {} if item is fields else item.rest(JUDGEMENT)
    task = task_of(fields, messages, known, notes=notes)
    return Episode(name, task, chat.said(item.text("response", required=True) or ""), feedback + _aspects(item))


def _aspects(item: Fields) -> tuple[Feedback, ...]:
    found: list[Feedback] = []
    aspects = item.at("annotations")
    for name in aspects.value:
        given = aspects.at(name)
        absent = given.get("Rating") in ABSENT
        score, scale = (math.nan, None) if absent else given.mark("Rating", ASPECT_SCALE, written=True)
        words = [given.text(key) for key in ("Rationale", "Rationale For Rating")]
        text = "\n".join(filter(None, words)) or None
        found += [Feedback("llm", None, name, score, text, scale=scale)] if scale or text else []
    return tuple(found)


ULTRAFEEDBACK = (
    Format("ultrafeedback", completion_episodes, ("instruction", "completions")),
    Format("ultrafeedback-binarized", binarized_episodes, ("chosen", "rejected", "score_chosen", "score_rejected")),
    Format("ultrafeedback-critique", critique_episodes, ("instruction", "response", "critique", "overall_score")),
)
