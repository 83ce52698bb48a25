"""Shepherd's human critiques of model answers (Wang et al. 2023, arXiv 2308.04592, `data/` of its repository).

Raw records: question = `metadata.context`, answer = `output_candidate`, correction and reference = `output_correct`;
two ratings from 1 to 5 become scores (r - 1) / 4, and each error type becomes one critique that keeps its type as name.
The flattened variant holds `question`, `answer`, `feedback` and no rating.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Format, name_of, task_of
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback

JOBS = "latestLabel.jsonResponse."
RATINGS = {"justified": JOBS + "CLASSIFICATION_JOB", "correct": JOBS + "CLASSIFICATION_JOB_1"}
ERRORS = JOBS + "CLASSIFICATION_JOB_0"
FLAGS = JOBS + "CLASSIFICATION_JOB_2"
KNOWN = ("id", "latestLabel", "metadata", "question", "answer", "feedback", "annotator")


def raw_episodes(fields: Fields) -> list[Episode]:
    """One annotation of `human_data_raw.jsonl` as an episode."""
    correct, annotator = fields.text("metadata.output_correct", required=True), fields.label("annotator")
    answer = fields.text("metadata.output_candidate", required=True) or ""
    feedback = (
        *_ratings(fields, annotator),
        *_critiques(fields, annotator),
        Feedback("human", annotator, "output_correct", revision=correct),
    )
    flags = [{"name": name, "text": text} for name, text in _categories(fields, FLAGS)]
    messages = chat.user(fields.text("metadata.context", required=True) or "")
    task = task_of(fields, messages, KNOWN, correct, notes={"flags": flags or None})
    return [Episode(name_of(fields, "id"), task, chat.said(answer), feedback)]


def flat_episodes(fields: Fields) -> list[Episode]:
    """One annotation of `human_data_for_model.jsonl` as an episode."""
    said = Feedback("human", fields.label("annotator"), "feedback", text=fields.text("feedback", required=True))
    answer = fields.text("answer", required=True) or ""
    task = task_of(fields, chat.user(fields.text("question", required=True) or ""), KNOWN)
    return [Episode(name_of(fields, "id"), task, chat.said(answer), (said,))]


def _ratings(fields: Fields, annotator: str | None) -> list[Feedback]:
    found = []
    for name, path in RATINGS.items():
        given = [label for label, _ in _categories(fields, path)]
        if len(given) != 1 or given[0][:1] not in set("12345"):
            fields.refuse(path, given, "one category whose name starts with its rating, 1 to 5")
        score = (int(given[0][0]) - 1) / 4 if given and given[0][:1] in set("12345") else math.nan
        found.append(Feedback("human", annotator, name, score))
    return found


def _critiques(fields: Fields, annotator: str | None) -> list[Feedback]:
    found = _categories(fields, ERRORS)
    return [Feedback("human", annotator, name, text=text) for name, text in found]


def _categories(fields: Fields, path: str) -> list[tuple[str, str | None]]:
    """The chosen categories of a job, each with the text written under it."""
    chosen, found = fields.get(f"{path}.categories"), []
    if chosen is not None and not isinstance(chosen, list):
        fields.refuse(f"{path}.categories", chosen, "a list")
    for item in chosen if isinstance(chosen, list) else []:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            fields.refuse(f"{path}.categories", item, "an object with a name")
            continue
        found.append((name, _written(fields, path, item.get("children"))))
    return found


def _written(fields: Fields, path: str, children: Any) -> str | None:
    texts = [
        child.get("text") if isinstance(child, dict) else child
        for child in (children.values() if isinstance(children, dict) else [])
    ]
    if (children is not None and not isinstance(children, dict)) or any(not isinstance(text, str) for text in texts):
        fields.refuse(f"{path}.categories.children", children, "objects with a text each")
        return None
    return "\n".join(text for text in texts if text) or None


def shepherd_episodes(fields: Fields) -> list[Episode]:
    """One annotation of either file."""
    return flat_episodes(fields) if _is_flat(fields.value) else raw_episodes(fields)


def _is_flat(record: dict[str, Any]) -> bool:
    return {"question", "answer", "feedback"} <= record.keys() and "response" not in record


def _is_either(record: dict[str, Any]) -> bool:
    metadata = record.get("metadata")
    return _is_flat(record) or (
        "latestLabel" in record and isinstance(metadata, dict) and "output_candidate" in metadata
    )


SHEPHERD = Format("shepherd", shepherd_episodes, detect=_is_either)
