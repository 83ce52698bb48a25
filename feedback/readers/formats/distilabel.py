"""distilabel's outputs: `instruction`, and lists of `generations`, `ratings` and `rationales` of equal length."""

from __future__ import annotations

import math

from feedback.readers import chat
from feedback.readers.base import Format, name_of, task_of
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

LISTS = ("ratings", "rationales", "generation_models")
KNOWN = ("id", "instruction", "generations", *LISTS)


def distilabel_episodes(fields: Fields) -> list[Episode]:
    """Each generation as an episode; a rating or rationale may be null."""
    generations = fields.listed("generations")
    lists = {name: fields.listed(name) for name in LISTS if fields.get(name) is not None}
    for name, values in lists.items():
        if len(values) != len(generations):
            fields.refuse(name, f"{len(values)} items", f"{len(generations)}, one for each of `generations`")
    if not generations:
        fields.refuse("generations", fields.get("generations"), "at least one generation")
    messages, name = chat.user(fields.text("instruction", required=True) or ""), name_of(fields, "id")
    found = []
    for number, text in enumerate(generations):
        one = {"generations": text} | {key: values[number] for key, values in lists.items() if number < len(values)}
        item = fields.holding(one)
        task = task_of(fields, messages, KNOWN, notes={"generation_model": item.text("generation_models")})
        turns = chat.said(item.text("generations", required=True) or "")
        found.append(Episode(f"{name}/{number + 1}", task, turns, _judged(item)))
    return found


def _judged(item: Fields) -> tuple[Feedback, ...]:
    score, scale = item.mark("ratings", written=True)
    critique = item.text("rationales")
    return (
        ()
        if math.isnan(score) and critique is None
        else (Feedback("llm", None, "rating", score, critique, scale=scale),)
    )


DISTILABEL = Format("distilabel", distilabel_episodes, ("instruction", "generations"), declared=True)
