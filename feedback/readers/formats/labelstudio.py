"""Label Studio's JSON export: `data`, and `annotations` with `completed_by`, `was_cancelled` and a `result` list.

Each result names its question in `from_name`; ratings, numbers, texts and labels that are verdicts ("good") are read,
other types stay in meta.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from feedback.forms.tasks import RECORD
from feedback.readers.base import read_id
from feedback.readers.columns.words import parse_verdict
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import FormReader
from feedback.readers.formats.returned import Answered, is_returned, read_returned
from feedback.types import Episode, Feedback, Task

READ = ("rating", "number", "text", "choices")
COMPARISONS = ("pairwise", "ranker")


class LabelStudio(FormReader):
    """One task with the results of every annotation that was not cancelled."""

    name = "label-studio"
    columns = ("data", "annotations")

    def is_match(self, record: dict[str, Any]) -> bool:
        """A task with annotations, or one that fdt made and nobody has seen yet."""
        data = record.get("data")
        return super().is_match(record) or (isinstance(data, dict) and RECORD in data)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        data = fields.get_object("data")
        if is_returned(data):
            return read_returned(data, _list_answers(fields))
        _refuse_comparisons(fields)
        task, turns = self.read_task(data, ()) if not fields.faults else (Task("", ()), ())
        feedback: list[Feedback] = []
        others: list[dict[str, Any]] = []
        for annotation in fields.get_objects("annotations"):
            if annotation.get_flag("was_cancelled"):
                continue
            annotator = _read_annotator(annotation)
            for result in annotation.get_objects("result"):
                found = self._read_judgements(result, annotator)
                feedback += found
                others += [] if found else [result.value]
        notes = {"results": others} | {name: fields.get(name) for name in ("comments", "predictions")}
        task = replace(task, meta=task.meta | {name: value for name, value in notes.items() if value})
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]

    def _read_judgements(self, result: Fields, annotator: str | None) -> list[Feedback]:
        question = result.get_label("from_name") or "rating"
        value = result.get_object("value")
        if "start" in value.value:  # a part of the answer, not words about it
            return []
        for kind in READ:
            given = value.get(kind)
            if kind == "choices" and isinstance(given, list):
                given = [_to_number(label) for label in given]
            is_label = kind == "choices" and question not in (self.score, self.critique, self.revision)
            if given is not None and not (is_label and not _are_verdicts(given)):
                texts = given if isinstance(given, list) else [given]
                items = [
                    self.read_judgement(value.replace_values({question: text}), question, "human", annotator)
                    for text in texts
                ]
                return [item for item in items if item]
        return []


def _refuse_comparisons(fields: Fields) -> None:
    """Notes answers that say which of several responses is better, of which a task of one response can have none."""
    for annotation in fields.get_objects("annotations"):
        for result in annotation.get_objects("result"):
            if result.get("type") in COMPARISONS and not annotation.get_flag("was_cancelled"):
                remedy = "Write each pair as a row of its own: {prompt, chosen, rejected} (docs/formats.md)."
                result.refuse("type", result.get("type"), f"one of {', '.join(READ)}, about one response", remedy)


def _list_answers(fields: Fields) -> list[Answered]:
    """What each annotation that was not cancelled answers; of several texts in one field, the last."""
    found: list[Answered] = []
    for annotation in fields.get_objects("annotations"):
        if not annotation.get_flag("was_cancelled"):
            results = annotation.get_objects("result")
            answers = [(result.get_label("from_name") or "", _read_value(result)) for result in results]
            found.append((_read_annotator(annotation), answers))
    return found


def _read_value(result: Fields) -> Any:
    value = result.get_object("value")
    given = next((value.get(kind) for kind in READ if value.get(kind) is not None), None)
    return (given[-1] if given else None) if isinstance(given, list) else given


def _to_number(label: Any) -> Any:
    """A label such as "3" as the number that it is."""
    try:
        return float(label) if isinstance(label, str) and label.strip().isascii() else label
    except ValueError:
        return label


def _are_verdicts(given: Any) -> bool:
    """Whether the labels chosen are verdicts such as "good", which are scores; others say what, and not how good."""
    labels = given if isinstance(given, list) else [given]
    return bool(labels) and all(isinstance(label, float) or parse_verdict(label) is not None for label in labels)


def _read_annotator(annotation: Fields) -> str | None:
    if isinstance(annotation.get("completed_by"), dict):
        who = annotation.get_object("completed_by")
        return who.get_label("email") or who.get_label("id")
    return annotation.get_label("completed_by")
