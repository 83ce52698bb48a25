"""distilabel's outputs: `instruction`, and lists of `generations`, `ratings` and `rationales` of equal length."""

from __future__ import annotations

import math

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

LISTS = ("ratings", "rationales", "generation_models")
KNOWN = ("id", "instruction", "generations", *LISTS)


class Distilabel(Reader):
    """Each generation as an episode; a rating or rationale may be null."""

    name = "distilabel"
    columns = ("instruction", "generations")

    def parse(self, fields: Fields) -> list[Episode]:
        """An episode for each generation."""
        generations = fields.get_list("generations")
        lists = {name: fields.get_list(name) for name in LISTS if fields.get(name) is not None}
        for name, values in lists.items():
            if len(values) != len(generations):
                fields.refuse(name, f"{len(values)} items", f"{len(generations)}, one for each of `generations`")
        if not generations:
            fields.refuse("generations", fields.get("generations"), "at least one generation")
        messages = chat.build_user_prompt(fields.get_text("instruction", required=True) or "")
        base = read_id(fields, "id")
        found = []
        for number, text in enumerate(generations):
            one = {"generations": text} | {key: values[number] for key, values in lists.items() if number < len(values)}
            item = fields.replace_values(one)
            task = build_task(fields, messages, KNOWN, notes={"generation_model": item.get_text("generation_models")})
            turns = chat.build_answer(item.get_text("generations", required=True) or "")
            found.append(Episode(f"{base}/{number + 1}", task, turns, _read_rating(item)))
        return found


def _read_rating(item: Fields) -> tuple[Feedback, ...]:
    score, scale = item.get_score("ratings", allow_text=True)
    critique = item.get_text("rationales")
    if math.isnan(score) and critique is None:
        return ()
    return (Feedback("llm", None, "rating", score, critique, scale=scale),)
