"""The canonical episode: a whole dialogue a record, with feedback on its turns, in JSON Lines, JSON or Parquet.

`id`, `task`, `messages` (role, content, tool calls), `feedback`: a list of `{turn, score, min, max, critique, revision,
name, source, annotator}` where `turn` is the place of an assistant's message in `messages`, from 0; absent, the item
is about the whole. Besides `reference`, `meta` (an object; further columns join it), `preferences` as in a row; and
the feedback of a row (`score`, `critique`, `revision`, `annotator`, `source`, `scores`) is about the whole too.

The prompt is what stands before the first assistant's message, or before `start`, the place of another one; a `start`
after the last message leaves the answer to the policy.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, get_type_hints

import msgspec

from feedback.readers import chat
from feedback.readers.base import Reader
from feedback.readers.columns.names import suggest_field
from feedback.readers.fields import SOURCES, Fields
from feedback.readers.formats.rows import build_preference, read_own_feedback, read_preferences, restore_scale
from feedback.types import Episode, Feedback, Message, Task, hash_prompt

NOTES: dict[str, Any] = {
    name: kind for name, kind in get_type_hints(Episode).items() if name in Episode.__struct_fields__[5:]
}
"""The fields of an attempt that later stages fill in, and their types."""
ITEM = ("turn", "score", "min", "max", "critique", "revision", "name", "source", "annotator")
"""Keys of an item of `feedback`."""
COLUMNS = ("id", "task", "messages", "start", "feedback", "preferences", "reference", "meta", "notes")
OWN = ("score", "critique", "revision", "annotator", "source", "scores", "finished")
"""Columns of a row that may stand beside the messages."""

BESIDE = ("prompt", "response", "completion")
"""Columns that say once more, or otherwise, what the messages say."""


class Episodes(Reader):
    """One dialogue as an episode."""

    name = "episodes"
    columns: ClassVar[tuple[str, ...]] = ("messages",)
    reads_row_columns = True
    allow_unknown: ClassVar[bool] = False
    """Whether messages may hold notes of a program, which are left out."""

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        found = chat.read_messages(fields, "messages", (*chat.SAMPLED, "weight"), self.allow_unknown)
        start = _find_start(fields, found)
        messages = chat.check_prompt(fields, "messages", [_drop_weight(fields, message) for message in found[:start]])
        turns = tuple(chat.to_turn(message) for message in found[start:])
        answers = [place for place, message in enumerate(found) if message["role"] == "assistant" and place >= start]
        for name in (*BESIDE, *_find_answers(fields, found)):
            if fields.get(name) not in (None, "", []):
                remedy = f"Write it as the last message, or keep it as a note: --map meta.{name}={name}."
                fields.refuse(name, fields.get(name), "no answer or prompt beside messages that hold it", remedy)
        if isinstance(fields.get("feedback"), str):
            remedy = "Words about the whole are read as --map critique=feedback says (in a config: data.map)."
            fields.refuse("feedback", fields.get("feedback"), "a list of judgements", remedy)
        items = [] if isinstance(fields.get("feedback"), str) else fields.get_objects("feedback")
        judged = tuple(_read_feedback(item, answers) for item in items)
        feedback = judged + read_own_feedback(fields)
        name = fields.get_label("id") or fields.record.name
        meta = fields.collect_rest((*COLUMNS, *OWN)) | fields.get_object("meta").value
        key = fields.get_label("task") or hash_prompt(messages)
        task = Task(key, messages, fields.get_label("reference"), meta=meta)
        preferences = read_preferences(fields, name)
        return [Episode(name, task, turns, feedback, preferences, **_read_notes(fields))]


def _find_answers(fields: Fields, found: list[Message]) -> list[str]:
    """Columns of answers beside messages that end with a question, which are what was judged."""
    if not found or found[-1]["role"] != "user" or fields.get("start") is not None:
        return []
    rest = fields.collect_rest((*COLUMNS, *OWN, *BESIDE))
    return [name for name, value in rest.items() if name == "choices" or suggest_field(name, [value]) == "response"]


def _read_notes(fields: Fields) -> dict[str, Any]:
    """What earlier stages noted on the attempt, by the names of `Episode`'s fields."""
    given = fields.get_object("notes").value
    for name in sorted(set(given) - set(NOTES)):
        fields.refuse(f"notes.{name}", given[name], f"one of {', '.join(NOTES)}")
    try:
        return {name: msgspec.convert(value, NOTES[name]) for name, value in given.items() if name in NOTES}
    except msgspec.ValidationError as fault:
        fields.refuse("notes", given, f"notes as fdt writes them ({fault})")
        return {}


def write_notes(episode: Episode) -> dict[str, Any]:
    """The notes of an attempt that differ from a fresh one's."""
    fresh = Episode(episode.id, episode.task, ())
    noted = {name: getattr(episode, name) for name in NOTES if getattr(episode, name) != getattr(fresh, name)}
    return msgspec.to_builtins(noted)


def _find_start(fields: Fields, found: list[Message]) -> int:
    """Where the answer begins. OpenAI's `weight: 0` says that an assistant's message belongs to the prompt."""
    answers = [place for place, message in enumerate(found) if message["role"] == "assistant"]
    given = fields.get_int("start")
    if given == len(found) > 0:
        return given  # nobody has answered yet
    if given is not None and given not in answers:
        fields.refuse("start", given, "the place of an assistant's message in `messages`, from 0")
    trained = [place for place in answers if found[place].get("weight") is not False]
    if not trained:
        fields.refuse("messages", [message["role"] for message in found], "a message of the assistant")
    start = trained[0] if trained and given not in answers else given or 0
    if any(place >= start and place not in trained for place in answers):
        fields.refuse(
            "messages",
            "weight 0 after an answer",
            "weight 0 before the first answer alone",
            "Split the dialogue there.",
        )
    return start


def _drop_weight(fields: Fields, message: Message) -> Message:
    if any(name in message for name in chat.SAMPLED):
        fields.refuse("messages", "sampled tokens in the prompt", "sampled tokens in answers alone")
    return {name: value for name, value in message.items() if name != "weight"}


def _read_feedback(fields: Fields, answers: list[int]) -> Feedback:
    """One item of feedback; `answers` are the places of the assistant's messages that may be judged."""
    place = fields.get_int("turn")
    if place is not None and place not in answers:
        known = ", ".join(map(str, answers)) or "there is none"
        fields.refuse("turn", place, f"the place of one of the answers in `messages`, from 0: {known}")
    unknown = fields.collect_rest(ITEM)
    if unknown:
        fields.refuse(next(iter(unknown)), next(iter(unknown.values())), "no such key in an item of feedback")
    score, scale = fields.get_score("score", fields.get_scale())
    return Feedback(
        fields.get_choice("source", SOURCES, "human"),
        fields.get_label("annotator"),
        fields.get_label("name") or "score",
        score,
        fields.get_text("critique"),
        answers.index(place) if place in answers else None,
        fields.get_text("revision"),
        scale,
    )


def build_record(episode: Episode) -> dict[str, Any]:
    """The canonical record of any episode; reading it gives the same episode back."""
    prompt = [dict(message) for message in episode.task.messages]
    messages = prompt + [chat.to_message(turn) for turn in episode.turns]
    places = [len(prompt) + place for place in episode.policy_places]
    earlier = any(message["role"] == "assistant" for message in prompt)
    record = {
        "id": episode.id,
        "task": episode.task.key,
        "messages": messages,
        "start": len(prompt) if earlier or not places else None,
        "feedback": [_build_feedback(item, places) for item in episode.feedback],
        "preferences": [build_preference(item) for item in episode.preferences],
        "reference": episode.task.reference,
        "meta": episode.task.meta,
        "notes": write_notes(episode),
    }
    return {name: value for name, value in record.items() if value or name in ("id", "task", "messages")}


def _build_feedback(item: Feedback, places: list[int]) -> dict[str, Any]:
    score = {} if math.isnan(item.score) else restore_scale(item.score, item.scale)
    if "value" in score:
        score["score"] = score.pop("value")
    named = {
        "turn": None if item.turn is None else places[item.turn],
        "name": item.name,
        **score,
        "critique": item.text,
        "revision": item.revision,
        "source": item.source,
        "annotator": item.annotator,
    }
    return {name: value for name, value in named.items() if value is not None}
