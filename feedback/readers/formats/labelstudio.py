"""Label Studio's JSON export: `data`, and `annotations` with `completed_by`, `was_cancelled` and a `result` list.

Each result names its question in `from_name`; ratings, numbers and texts are read, other types stay in meta.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from feedback.readers.base import Format, name_of
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import Form, configured
from feedback.types import Episode, Feedback

READ = ("rating", "number", "text")


def label_studio_episodes(fields: Fields, form: Form = Form()) -> list[Episode]:
    """One task with the results of every annotation that was not cancelled."""
    data = fields.at("data")
    task, turns = form.asked(data, ())
    feedback: list[Feedback] = []
    others: list[dict[str, Any]] = []
    for annotation in fields.items("annotations"):
        if annotation.flag("was_cancelled"):
            continue
        who = annotation.at("completed_by") if isinstance(annotation.get("completed_by"), dict) else annotation
        annotator = who.label("email") or who.label("id") if who is not annotation else who.label("completed_by")
        for result in annotation.items("result"):
            found = _judgements(result, form, annotator)
            feedback += found
            others += [] if found else [result.value]
    task = replace(task, meta=task.meta | ({"results": others} if others else {}))
    return [Episode(name_of(fields, "id"), task, turns, tuple(feedback))]


def _judgements(result: Fields, form: Form, annotator: str | None) -> list[Feedback]:
    question, value = result.label("from_name") or "rating", result.at("value")
    for kind in READ:
        given = value.get(kind)
        if given is not None:
            texts = given if isinstance(given, list) else [given]
            items = [form.judgement(value.holding({question: text}), question, "human", annotator) for text in texts]
            return [item for item in items if item]
    return []


def label_studio(form: Form) -> Format:
    """The format for a form with these roles."""
    return Format(
        "label-studio",
        partial(label_studio_episodes, form=form),
        ("data", "annotations"),
        declared=True,
        configured=lambda words: configured(LABEL_STUDIO, label_studio, words),
    )


LABEL_STUDIO = label_studio(Form())
