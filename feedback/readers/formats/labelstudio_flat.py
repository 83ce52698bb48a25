"""Label Studio's flat exports, JSON-MIN and CSV: an annotation a record, its answers beside the columns of the task.

Such a record does not say which columns are answers. Those whose names and values tell a rating, a comment or a
correction are; `format: "label-studio-min:score=QUESTION,critique=QUESTION,revision=QUESTION"` names others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from feedback.readers.base import read_id
from feedback.readers.columns.names import find_unmistakable, is_reversed
from feedback.readers.columns.packed import parse_literal
from feedback.readers.fields import Fields
from feedback.readers.formats.questions import FormReader
from feedback.readers.record import Record
from feedback.types import Episode, Feedback

MARKS = ("annotation_id", "annotator", "lead_time", "created_at", "updated_at")
"""What the export adds to each annotation."""
ANNOTATIONS = "annotations"


class LabelStudioFlat(FormReader):
    """One task with the answers of its annotators, whose records follow each other."""

    name = "label-studio-min"
    columns = ("annotation_id", "annotator", "lead_time")

    def merge(self, path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
        """Neighbouring annotations of one task as one record; a broken record stays one."""
        for task, members in groupby(records, lambda record: record.fields.get("id")):
            group = list(members)
            if task is None or any(record.error is not None for record in group):
                yield from group
            else:
                raw = b"".join(record.raw for record in group)
                fields = group[0].fields | {ANNOTATIONS: [record.fields for record in group]}
                yield msgspec.structs.replace(group[0], fields=fields, raw=raw)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        prompt, response = self.find_columns(fields)
        given = [_unpack_values(item) for item in fields.get_objects(ANNOTATIONS) or [fields]]
        asked = [name for name in _list_names(given) if name not in (prompt, response, "id", ANNOTATIONS, *MARKS)]
        answers = [name for name in asked if self._is_answer(name, [item.get(name) for item in given])]
        task, turns = self.read_task(fields, ("id", ANNOTATIONS, *MARKS, *answers))
        feedback: list[Feedback] = []
        for item in given:
            annotator = item.get_label("annotator")
            found = [self.read_judgement(item, name, "human", annotator) for name in answers]
            feedback += [judgement for judgement in found if judgement]
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]

    def _is_answer(self, name: str, values: list[Any]) -> bool:
        if name in (self.score, self.critique, self.revision):
            return True
        field = find_unmistakable(name, values)
        return field is not None and not is_reversed(name, field)


def _unpack_values(item: Fields) -> Fields:
    """The annotation with its answers out of the objects that the export puts around ratings and several texts."""
    return item.replace_values({name: _unpack(value) for name, value in item.value.items()})


def _unpack(value: Any) -> Any:
    """`[{"rating": 2}]` as 2, `{"text": ["a", "b"]}` as two lines, `{"choices": ["good"]}` as good; so as JSON text."""
    found = value
    if isinstance(value, str) and value.lstrip().startswith(("[{", "{")):
        try:
            found = parse_literal(value)
        except ValueError:
            return value
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) and found[0].keys() == {"rating"}:
        return found[0]["rating"]
    if not isinstance(found, dict) or len(found) != 1:
        return value
    ((kind, inner),) = found.items()
    texts = inner if isinstance(inner, list) else [inner]
    if kind == "text" and all(isinstance(text, str) for text in texts):
        return "\n".join(texts)
    return texts[0] if kind == "choices" and len(texts) == 1 else value


def _list_names(given: list[Fields]) -> list[str]:
    return list(dict.fromkeys(name for item in given for name in item.value))
