"""Argilla's other exports as its flat one: records as its API gives them, and the datasets of its first version.

- a record: `fields`, `responses` by question (version 2) or one a user with its `values` (version 1), `suggestions`;
- a dataset of version 1: `QUESTION` holds the list of answers, `QUESTION-suggestion` a model's.
"""

from __future__ import annotations

from typing import Any

ANSWER = frozenset({"user_id", "value", "status"})
"""Keys of an answer in a dataset of the first version."""
OLD_SUGGESTION = "-suggestion"
Answers = dict[str, list[dict[str, Any]]]


def is_nested(record: dict[str, Any]) -> bool:
    """Whether a record is of one of these forms."""
    return _is_record(record) or any(_holds_answers(value) for value in record.values())


def flatten(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its answers in `QUESTION.responses` and its like; one of another form as it is."""
    if _is_record(record):
        rest = {name: value for name, value in record.items() if name not in ("fields", "responses", "suggestions")}
        flat = rest | record["fields"] | _flatten_answers(_collect_answers(record["responses"]))
        return flat | _flatten_suggestions(_collect_suggestions(record.get("suggestions")))
    answers = {name: value for name, value in record.items() if _holds_answers(value)}
    if not answers:
        return record
    models = {}
    for name in [name for name in record if name.endswith(OLD_SUGGESTION)]:
        notes = record.get(f"{name}-metadata")
        agent = notes.get("agent") if isinstance(notes, dict) else None
        models[name.removesuffix(OLD_SUGGESTION)] = {"value": record[name], "agent": agent}
    taken = {f"{question}{OLD_SUGGESTION}{ending}" for question in models for ending in ("", "-metadata")}
    rest = {name: value for name, value in record.items() if name not in answers.keys() | taken}
    return rest | _flatten_answers(answers) | _flatten_suggestions(models)


def _is_record(record: dict[str, Any]) -> bool:
    answers = record.get("responses")
    by_question = isinstance(answers, dict) and all(isinstance(value, list) for value in answers.values())
    by_user = isinstance(answers, list) and all(isinstance(one, dict) and "values" in one for one in answers)
    return isinstance(record.get("fields"), dict) and (by_question or by_user)


def _holds_answers(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(one, dict) and one.keys() >= ANSWER for one in value)
    )


def _collect_answers(responses: Any) -> Answers:
    """The answers to each question, of whichever version."""
    if isinstance(responses, dict):
        return {name: [one for one in value if isinstance(one, dict)] for name, value in responses.items()}
    found: Answers = {}
    for one in responses:
        for question, given in (one["values"] or {}).items():
            answer = {"value": given.get("value") if isinstance(given, dict) else given}
            found.setdefault(question, []).append(one | answer)
    return found


def _collect_suggestions(suggestions: Any) -> dict[str, dict[str, Any]]:
    if isinstance(suggestions, dict):
        return {name: one for name, one in suggestions.items() if isinstance(one, dict)}
    items = suggestions if isinstance(suggestions, list) else []
    return {one["question_name"]: one for one in items if isinstance(one, dict) and "question_name" in one}


def _flatten_answers(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for question, given in answers.items():
        found[f"{question}.responses"] = [one.get("value") for one in given]
        found[f"{question}.responses.users"] = [one.get("user_id") for one in given]
        found[f"{question}.responses.status"] = [one.get("status") or "submitted" for one in given]
    return found


def _flatten_suggestions(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for question, one in models.items():
        found[f"{question}.suggestion"] = one.get("value")
        found[f"{question}.suggestion.agent"] = one.get("agent")
    return found
