"""Label Studio's JSON export: `data`, and `annotations` with `completed_by`, `was_cancelled` and a `result` list.

Each result names its question in `from_name`; ratings, numbers and texts are read, other types stay in meta.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from feedback.readers.base import Format, read_id
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import Form, configure_format
from feedback.types import Episode, Feedback

READ = ("rating", "number", "text")


def read_label_studio(fields: Fields, form: Form = Form()) -> list[Episode]:
    """One task with the results of every annotation that was not cancelled."""
    data = fields.get_object("data")
    task, turns = form.read_task(data, ())
    feedback: list[Feedback] = []
    others: list[dict[str, Any]] = []
    for annotation in fields.get_objects("annotations"):
        if annotation.get_flag("was_cancelled"):
            continue
        who = annotation.get_object("completed_by") if isinstance(annotation.get("completed_by"), dict) else annotation
        annotator = (
            who.get_label("email") or who.get_label("id") if who is not annotation else who.get_label("completed_by")
        )
        for result in annotation.get_objects("result"):
            found = _read_judgements(result, form, annotator)
            feedback += found
            others += [] if found else [result.value]
    task = replace(task, meta=task.meta | ({"results": others} if others else {}))
    return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


def _read_judgements(result: Fields, form: Form, annotator: str | None) -> list[Feedback]:
    question, value = result.get_label("from_name") or "rating", result.get_object("value")
    for kind in READ:
        given = value.get(kind)
        if given is not None:
            texts = given if isinstance(given, list) else [given]
            items = [
                form.read_judgement(value.replace_values({question: text}), question, "human", annotator)
                for text in texts
            ]
            return [item for item in items if item]
    return []


def make_label_studio(form: Form) -> Format:
    """The format for a form with these roles."""
    return Format(
        "label-studio",
        partial(read_label_studio, form=form),
        ("data", "annotations"),
        declared=True,
        configured=lambda words: configure_format(LABEL_STUDIO, make_label_studio, words),
    )


LABEL_STUDIO = make_label_studio(Form())
