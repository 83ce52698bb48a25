"""The canonical episode: a whole dialogue a record, with feedback on its turns, in JSON Lines, JSON or Parquet.

`id`, `task`, `messages` (role, content, tool calls), `feedback`: a list of `{turn, score, min, max, critique, revision,
name, source, annotator}` where `turn` is the place of an assistant's message in `messages`, from 0; absent, the item
speaks about the whole. Besides `reference`, `meta` (an object; further columns join it), `preferences` as in a row.

The prompt is what stands before the first assistant's message, or before `start`, the place of another one; a `start`
after the last message leaves the answer to the policy.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.readers import chat
from feedback.readers.base import Format
from feedback.readers.fields import SOURCES, Fields
from feedback.readers.formats.rows import mark_of, preference, preference_of
from feedback.types import Episode, Feedback, Message, Task, prompt_key

COLUMNS = ("id", "task", "messages", "start", "feedback", "preferences", "reference", "meta", "notes")


def episode_episodes(fields: Fields) -> list[Episode]:
    """One dialogue as an episode; faults are noted in `fields`."""
    found = chat.messages(fields, "messages", (*chat.SAMPLED, "weight"))
    start = _start(fields, found)
    messages = chat.asked(fields, "messages", [_plain(fields, message) for message in found[:start]])
    turns = tuple(chat.turn_of(message) for message in found[start:])
    steps = {
        place: step
        for step, place in enumerate(
            place for place, message in enumerate(found) if message["role"] == "assistant" and place >= start
        )
    }
    feedback = tuple(_item(item, steps) for item in fields.items("feedback"))
    name = fields.label("id") or fields.record.name
    meta = fields.rest(COLUMNS) | fields.at("meta").value
    task = Task(fields.label("task") or prompt_key(messages), messages, fields.text("reference"), meta=meta)
    preferences = tuple(preference(item) for item in fields.items("preferences"))
    return [Episode(name, task, turns, feedback, fields.at("notes").value, preferences)]


def _start(fields: Fields, found: list[Message]) -> int:
    """Where the answer begins. OpenAI's `weight: 0` marks assistant's messages that belong to the prompt."""
    spoken = [place for place, message in enumerate(found) if message["role"] == "assistant"]
    given = fields.whole("start")
    if given == len(found) > 0:
        return given  # nobody has answered yet
    if given is not None and given not in spoken:
        fields.refuse("start", given, "the place of an assistant's message in `messages`, from 0")
    trained = [place for place in spoken if found[place].get("weight") is not False]
    if not trained:
        fields.refuse("messages", [message["role"] for message in found], "a message of the assistant")
    start = trained[0] if trained and given not in spoken else given or 0
    if any(place >= start and place not in trained for place in spoken):
        fields.refuse(
            "messages",
            "weight 0 after an answer",
            "weight 0 before the first answer alone",
            "Split the dialogue there.",
        )
    return start


def _plain(fields: Fields, message: Message) -> Message:
    if any(name in message for name in chat.SAMPLED):
        fields.refuse("messages", "sampled tokens in the prompt", "sampled tokens in answers alone")
    return {name: value for name, value in message.items() if name != "weight"}


def _item(fields: Fields, steps: dict[int, int]) -> Feedback:
    turn = fields.whole("turn")
    if turn is not None and turn not in steps:
        fields.refuse(
            "turn",
            turn,
            "the place of one of the answers in `messages`, from 0: " + (", ".join(map(str, steps)) or "there is none"),
        )
    unknown = fields.rest(("turn", "score", "min", "max", "critique", "revision", "name", "source", "annotator"))
    if unknown:
        fields.refuse(next(iter(unknown)), next(iter(unknown.values())), "no such key in an item of feedback")
    score, scale = fields.mark("score", fields.own_scale())
    source, step = fields.choice("source", SOURCES, "human"), None if turn is None else steps.get(turn)
    return Feedback(
        source,
        fields.label("annotator"),
        fields.label("name") or "score",
        score,
        fields.text("critique"),
        step,
        fields.text("revision"),
        scale,
    )


def episode_of(episode: Episode) -> dict[str, Any]:
    """The canonical record of any episode; reading it gives the same episode back."""
    prompt = [dict(message) for message in episode.task.messages]
    messages = prompt + [chat.message_of(turn) for turn in episode.turns]
    places = [len(prompt) + place for place, turn in enumerate(episode.turns) if turn.role == "assistant"]
    earlier = any(message["role"] == "assistant" for message in prompt)
    record = {
        "id": episode.id,
        "task": episode.task.key,
        "messages": messages,
        "start": len(prompt) if earlier or not places else None,
        "feedback": [_given(item, places) for item in episode.feedback],
        "preferences": [preference_of(item) for item in episode.preferences],
        "reference": episode.task.reference,
        "meta": episode.task.meta,
        "notes": episode.meta,
    }
    return {name: value for name, value in record.items() if value or name in ("id", "task", "messages")}


def _given(item: Feedback, places: list[int]) -> dict[str, Any]:
    mark = {} if math.isnan(item.score) else mark_of(item.score, item.scale)
    if "value" in mark:
        mark["score"] = mark.pop("value")
    named = {
        "turn": None if item.step is None else places[item.step],
        "name": item.name,
        **mark,
        "critique": item.text,
        "revision": item.revision,
        "source": item.source,
        "annotator": item.annotator,
    }
    return {name: value for name, value in named.items() if value is not None}


EPISODES = Format("episodes", episode_episodes, ("messages",), declared=True)
