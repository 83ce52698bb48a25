"""Shepherd's human critiques of model answers (Wang et al. 2023, arXiv 2308.04592, `data/` of its repository).

Raw records: question = `metadata.context`, answer = `output_candidate`, correction and reference = `output_correct`;
two ratings from 1 to 5 become scores (r - 1) / 4, and each error type becomes one critique that keeps its type as name.
The flattened variant holds `question`, `answer`, `feedback` and no rating.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

JOBS = "latestLabel.jsonResponse."
RATINGS = {"justified": JOBS + "CLASSIFICATION_JOB", "correct": JOBS + "CLASSIFICATION_JOB_1"}
ERRORS = JOBS + "CLASSIFICATION_JOB_0"
FLAGS = JOBS + "CLASSIFICATION_JOB_2"
KNOWN = ("id", "latestLabel", "metadata", "question", "answer", "feedback", "annotator")


class Shepherd(Reader):
    """One annotation of either file."""

    name = "shepherd"
    takes_scale = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """The fields of either file."""
        metadata = record.get("metadata")
        is_raw = "latestLabel" in record and isinstance(metadata, dict) and "output_candidate" in metadata
        return is_raw or _is_flat(record)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        return read_flat(fields) if _is_flat(fields.value) else read_raw(fields)


def read_raw(fields: Fields) -> list[Episode]:
    """One annotation of `human_data_raw.jsonl` as an episode."""
    correct = fields.get_text("metadata.output_correct", required=True)
    annotator = fields.get_label("annotator")
    answer = fields.get_text("metadata.output_candidate", required=True) or ""
    feedback = (
        *_read_ratings(fields, annotator),
        *_read_critiques(fields, annotator),
        Feedback("human", annotator, "output_correct", revision=correct),
    )
    flags = [{"name": name, "text": text} for name, text in _read_categories(fields, FLAGS)]
    messages = chat.build_user_prompt(fields.get_text("metadata.context", required=True) or "")
    task = build_task(fields, messages, KNOWN, correct, notes={"flags": flags or None})
    return [Episode(read_id(fields, "id"), task, chat.build_answer(answer), feedback)]


def read_flat(fields: Fields) -> list[Episode]:
    """One annotation of `human_data_for_model.jsonl` as an episode."""
    item = Feedback("human", fields.get_label("annotator"), "feedback", text=fields.get_text("feedback", required=True))
    answer = fields.get_text("answer", required=True) or ""
    task = build_task(fields, chat.build_user_prompt(fields.get_text("question", required=True) or ""), KNOWN)
    return [Episode(read_id(fields, "id"), task, chat.build_answer(answer), (item,))]


def _read_ratings(fields: Fields, annotator: str | None) -> list[Feedback]:
    found = []
    for name, path in RATINGS.items():
        given = [label for label, _ in _read_categories(fields, path)]
        if len(given) != 1 or given[0][:1] not in set("12345"):
            fields.refuse(path, given, "one category whose name starts with its rating, 1 to 5")
        score = (int(given[0][0]) - 1) / 4 if given and given[0][:1] in set("12345") else math.nan
        found.append(Feedback("human", annotator, name, score))
    return found


def _read_critiques(fields: Fields, annotator: str | None) -> list[Feedback]:
    found = _read_categories(fields, ERRORS)
    return [Feedback("human", annotator, name, text=text) for name, text in found]


def _read_categories(fields: Fields, path: str) -> list[tuple[str, str | None]]:
    """The chosen categories of a job, each with the text written under it."""
    chosen = fields.get(f"{path}.categories")
    found = []
    if chosen is not None and not isinstance(chosen, list):
        fields.refuse(f"{path}.categories", chosen, "a list")
    for item in chosen if isinstance(chosen, list) else []:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            fields.refuse(f"{path}.categories", item, "an object with a name")
            continue
        found.append((name, _read_children(fields, path, item.get("children"))))
    return found


def _read_children(fields: Fields, path: str, children: Any) -> str | None:
    texts = [
        child.get("text") if isinstance(child, dict) else child
        for child in (children.values() if isinstance(children, dict) else [])
    ]
    if (children is not None and not isinstance(children, dict)) or any(not isinstance(text, str) for text in texts):
        fields.refuse(f"{path}.categories.children", children, "objects with a text each")
        return None
    return "\n".join(text for text in texts if text) or None


def _is_flat(record: dict[str, Any]) -> bool:
    return {"question", "answer", "feedback"} <= record.keys() and "response" not in record
