"""Episodes as records of Argilla (2.x), and the settings of a dataset that asks about them."""

from __future__ import annotations

import json
from typing import Any

from feedback.forms.tasks import POINTS, RECORD, list_questions
from feedback.forms.texts import build_texts
from feedback.types import Episode

FIELDS = {"prompt": "Prompt", "response": "Response", "given": "Said so far"}


def build_record(episode: Episode, points: tuple[int, int]) -> dict[str, Any]:
    """A record, flat as Argilla exports it; the episode travels as text in its metadata."""
    texts = build_texts(episode)
    fields = {name: texts[name] or "-" for name in FIELDS}  # Argilla takes no empty field
    carried = {RECORD: json.dumps(texts[RECORD], ensure_ascii=False), POINTS: json.dumps(list(points))}
    return {"id": episode.id, **fields, **carried}


def build_settings(num_turns: int, points: tuple[int, int]) -> dict[str, Any]:
    """The settings of the dataset, as `argilla.Settings.from_json` reads them."""
    fields = [
        {"name": name, "title": title, "required": True, "settings": {"type": "text", "use_markdown": False}}
        for name, title in FIELDS.items()
    ]
    options = [{"value": value} for value in range(points[0], points[1] + 1)]
    kinds: dict[str, dict[str, Any]] = {"score": {"type": "rating", "options": options}}
    questions = [
        {
            "name": name,
            "title": title,
            "description": None,
            "required": name == "score",  # a dataset without a required question cannot be published
            "settings": kinds.get(part, {"type": "text", "use_markdown": False}),
        }
        for name, part, title in list_questions(num_turns)
    ]
    return {
        "guidelines": "Every question but the first may be left out.",
        "fields": fields,
        "questions": questions,
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
