"""Shepherd's human critiques of model answers (Wang et al. 2023, arXiv 2308.04592, `data/` of its repository).

Raw records: question = `metadata.context`, answer = `output_candidate`, correction and reference = `output_correct`;
two ratings from 1 to 5 become scores (r - 1) / 4, and each error type becomes one critique that keeps its type as name.
The flattened variant holds `question`, `answer`, `feedback` and no rating.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.readers.record import Record
from feedback.readers.rows import Fields
from feedback.types import Episode, Feedback, Task, Turn, prompt_key

JOBS = "latestLabel.jsonResponse."
RATINGS = {"justified": JOBS + "CLASSIFICATION_JOB", "correct": JOBS + "CLASSIFICATION_JOB_1"}
ERRORS = JOBS + "CLASSIFICATION_JOB_0"
FLAGS = JOBS + "CLASSIFICATION_JOB_2"
KNOWN = ("id", "latestLabel", "metadata", "question", "answer", "feedback", "annotator")


def is_raw(record: Record) -> bool:
    """True for a record of `human_data_raw.jsonl`."""
    metadata = record.fields.get("metadata")
    return "latestLabel" in record.fields and isinstance(metadata, dict) and "output_candidate" in metadata


def is_flat(record: Record) -> bool:
    """True for a record of `human_data_for_model.jsonl`."""
    return {"question", "answer", "feedback"} <= set(record.fields) and "response" not in record.fields


def shepherd_episode(fields: Fields) -> Episode:
    """One annotation as an episode; faults are noted in `fields`."""
    raw = is_raw(fields.record)
    question = fields.text("metadata.context" if raw else "question", required=True) or ""
    answer = fields.text("metadata.output_candidate" if raw else "answer", required=True) or ""
    correct = fields.text("metadata.output_correct", required=True) if raw else None
    annotator = fields.label("annotator")
    if raw:
        feedback = [*_ratings(fields, annotator), *_critiques(fields, annotator)]
        feedback.append(Feedback("human", annotator, "output_correct", revision=correct))
    else:
        feedback = [Feedback("human", annotator, "feedback", text=fields.text("feedback", required=True))]
    meta = {name: value for name, value in fields.record.fields.items() if name not in KNOWN and value is not None}
    flags = [{"name": name, "text": text} for name, text in _categories(fields, FLAGS)] if raw else []
    messages = ({"role": "user", "content": question},)
    task = Task(prompt_key(messages), messages, correct, meta=meta | ({"flags": flags} if flags else {}))
    name = fields.label("id") or f"line-{fields.record.line}"
    return Episode(name, task, (Turn("assistant", answer),), tuple(feedback))


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
    texts = [child.get("text") if isinstance(child, dict) else child
             for child in (children.values() if isinstance(children, dict) else [])]
    if (children is not None and not isinstance(children, dict)) or any(not isinstance(text, str) for text in texts):
        fields.refuse(f"{path}.categories.children", children, "objects with a text each")
        return None
    return "\n".join(text for text in texts if text) or None
