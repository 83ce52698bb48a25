"""The canonical row: one response a record, in JSON Lines, JSON, CSV or Parquet.

Columns: `id`, `task` (rows with equal `task`, else equal prompt, form a group), `prompt` (text or a list of messages),
`response`, and any of `score`, `critique`, `revision`, `reference`, `annotator`, `source` (human, llm, environment,
policy), `finished`; `scores`, a list of `{name, value, min, max, annotator}`; `preferences`, a list of `{over,
strength, min, max, annotator, text}`. Further columns go to `task.meta`; a null or an empty CSV cell is absent.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.faults import format_value
from feedback.readers import chat
from feedback.readers.base import Reader
from feedback.readers.columns.names import find_unmistakable, holds_answers, holds_lists, suggest_field
from feedback.readers.fast_rows import COLUMNS, FAST, KNOWN
from feedback.readers.fields import SOURCES, Fields
from feedback.readers.scales import Scale
from feedback.types import Episode, Feedback, Preference, Task, hash_prompt


def read_task(fields: Fields) -> Task:
    """The task of a row: its prompt, its reference, and every further column as meta."""
    messages = chat.read_prompt(fields, "prompt")
    key = fields.get_label("task") or hash_prompt(messages)
    return Task(key, messages, fields.get_label("reference"), meta=fields.collect_rest(KNOWN))


class Rows(Reader):
    """One row as an episode of one turn."""

    name = "rows"
    columns = ("prompt", "response")
    fast = FAST
    reads_row_columns = True

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        task = read_task(fields)
        turns = chat.read_answer(fields, "response")
        name = fields.get_label("id") or fields.record.name
        preferences = read_preferences(fields, name)
        return [Episode(name, task, turns, read_own_feedback(fields), preferences)]


class Prompts(Reader):
    """Prompts without an answer, with references and notes: what on-policy training asks."""

    name = "prompts"
    columns = ("prompt",)
    reads_feedback = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """A prompt, nothing that was answered, and nothing that judges an answer or may be one under another name."""
        suggested = {suggest_field(name, [value]) for name, value in record.items() if name not in KNOWN}
        answered = {"response", "score", "critique", "revision"}
        lists = any(holds_answers(name, [value]) or holds_lists(name, [value]) for name, value in record.items())
        return super().is_match(record) and not lists and not answered & (record.keys() | suggested)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode without turns."""
        for column in ("response", "score", "critique", "revision"):
            if fields.get(column) is not None:
                expected = "prompts alone, as the first records have it"
                fields.refuse(column, fields.get(column), expected, "Name the format (rows), or part the file.")
        return [Episode(fields.get_label("id") or fields.record.name, read_task(fields), ())]


def read_own_feedback(fields: Fields) -> tuple[Feedback, ...]:
    """The feedback that a record holds in columns of a row: `score`, `critique`, `revision`, `scores`, by whom."""
    source = fields.get_choice("source", SOURCES, "human")
    annotator = fields.get_label("annotator")
    score, scale = fields.get_score("score")
    critique = fields.get_text("critique")
    item = Feedback(source, annotator, "score", score, critique, None, fields.get_text("revision"), scale)
    scores = tuple(_read_score(given, source, annotator) for given in fields.get_objects("scores"))
    judged = ("score", "critique", "revision") + (() if scores else ("annotator", "source"))
    own = (item,) if any(fields.get(column) is not None for column in judged) else ()
    return own + scores


def read_preferences(fields: Fields, name: str) -> tuple[Preference, ...]:
    """The comparisons of the record of this name with others."""
    annotator = fields.get_label("annotator")
    preferences = tuple(read_preference(given, annotator) for given in fields.get_objects("preferences"))
    if any(given.other_id == name for given in preferences):
        fields.refuse("preferences", name, "the id of another row")
    return preferences


def read_preference(fields: Fields, annotator: str | None = None) -> Preference:
    """One comparison with another episode; without a strength, a clear win."""
    other_id = fields.get_label("over")
    if other_id is None:
        fields.refuse("over", None, "the id of the other row")
    strength = fields.get_number("strength")
    if math.isnan(strength):
        share = 1.0
    else:
        share, _ = fields.normalize_score("strength", strength, fields.get_scale() or (0.0, 1.0))
    return Preference(other_id or "", share, fields.get_text("text"), fields.get_label("annotator") or annotator)


def _read_score(fields: Fields, source: str, annotator: str | None) -> Feedback:
    value, scale = fields.get_score("value", fields.get_scale())
    if math.isnan(value) and not fields.faults:
        fields.refuse("value", None, "a finite number", "Leave the item out where there is no score.")
    name = fields.get_label("name") or "score"
    for key, words in fields.collect_rest(("name", "value", "min", "max", "annotator")).items():
        if find_unmistakable(key, [words]) is not None:
            fields.refuse(key, words, "a number alone in an item of scores", "Write words into the column critique.")
    return Feedback(source, fields.get_label("annotator") or annotator, name, value, scale=scale)


def build_row(episode: Episode) -> dict[str, Any]:
    """The canonical record of an episode of one turn; scores stand in [0, 1], those of `scores` on their own scale.

    Raises ValueError for what a row cannot hold: several turns, several critiques or corrections, feedback on a turn.
    """
    items = episode.feedback
    own = bool(items) and (
        not _has_only_score(items[0]) or (items[0].name == "score" and (items[0].scale is None or len(items) == 1))
    )  # else it is an item of `scores`
    wrong = _find_misfit(episode, own)
    if wrong:
        raise ValueError(f"episode {episode.id}: got {wrong}, which a row cannot hold; write an episode")
    messages = episode.task.messages
    alone = len(messages) == 1 and messages[0].keys() == {"role", "content"} and messages[0]["role"] == "user"
    row: dict[str, Any] = {
        "id": episode.id,
        "task": episode.task.key,
        "response": episode.response,
        "reference": episode.task.reference,
        "finished": None if episode.finished else False,
        "prompt": messages[0]["content"] if alone and messages[0]["content"] else list(messages),
    }
    if own:
        row |= {
            "score": None if math.isnan(items[0].score) else items[0].score,
            "critique": items[0].text,
            "revision": items[0].revision,
            "annotator": items[0].annotator,
        }
    row |= {
        "source": items[0].source if items else None,
        "scores": [build_score(item) for item in items[own:]] or None,
        "preferences": [build_preference(item) for item in episode.preferences] or None,
    }
    notes = {name: value for name, value in episode.task.meta.items() if name not in COLUMNS}
    return {name: row[name] for name in COLUMNS if row.get(name) is not None} | notes


def _find_misfit(episode: Episode, own: bool) -> str | None:
    """What of an episode a row cannot hold; None where it fits. `own`: the first item fills the row's own columns."""
    items = episode.feedback
    if len(episode.turns) != 1 or chat.to_message(episode.turns[0]).keys() != {"role", "content"}:
        return "turns of a dialogue, tool calls or sampled tokens"
    if any(item.turn is not None for item in items):
        return "feedback on a turn"
    if not all(_has_only_score(item) and item.source == items[0].source for item in items[own:]):
        return f"{len(items)} feedback items with words or sources of their own"
    names = [item.annotator for item in items[1:]] + [item.annotator for item in episode.preferences]
    if own and items[0].annotator and not all(names):
        return "judgements with an annotator beside others without"
    if own and items[0].name != "score" and not math.isnan(items[0].score):
        return f"a score named {format_value(items[0].name)} beside words"
    return None


def _has_only_score(item: Feedback) -> bool:
    return item.text is None and item.revision is None and not math.isnan(item.score)


def restore_scale(score: float, scale: Scale | None) -> dict[str, float]:
    """A score on the scale that it came on, where that gives the same score back; else in [0, 1]."""
    if scale is None:
        return {"value": score}
    low, high = scale
    value = low + score * (high - low)
    for near in (float(round(value)), value, math.nextafter(value, high), math.nextafter(value, low)):
        if low <= near <= high and (near - low) / (high - low) == score:
            return {"value": near, "min": low, "max": high}
    return {"value": score, "min": 0.0, "max": 1.0}


def build_score(item: Feedback) -> dict[str, Any]:
    """An item of `scores`."""
    named = {"name": item.name, "annotator": item.annotator} | restore_scale(item.score, item.scale)
    return {name: value for name, value in named.items() if value is not None}


def build_preference(item: Preference) -> dict[str, Any]:
    """An item of `preferences`."""
    named = {"over": item.other_id, "strength": item.strength, "text": item.text, "annotator": item.annotator}
    return {name: value for name, value in named.items() if value is not None}
