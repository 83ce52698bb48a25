"""Where a hint stands. A place is a function of an episode and a text; it changes one message that the policy did not
write, so that every turn of the policy, and every token before the place, stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from feedback.faults import DataError
from feedback.types import Episode, Message


def append_to_prompt(episode: Episode, text: str) -> Episode:
    """After a blank line at the end of the prompt's last user message: every turn is read with the hint."""
    return _replace_messages(episode, append_to_messages(episode.task.messages, text))


def append_to_system(episode: Episode, text: str) -> Episode:
    """At the end of the system message, or as one where there is none; the model's template must know the role."""
    first, *rest = episode.task.messages
    if first["role"] not in ("system", "developer"):
        return _replace_messages(episode, [{"role": "system", "content": text}, first, *rest])
    return _replace_messages(episode, [_append_text(first, text), *rest])


def insert_before_turn(episode: Episode, text: str) -> Episode:
    """Right before the assistant turn that the first critique of one turn is about, else before the last one.

    It ends the message which that turn answers (a reply of the user or of a tool); before the first turn that is the
    prompt's last user message.
    """
    answers = episode.policy_places
    criticised = [item.turn for item in episode.feedback if item.text and item.turn is not None]
    number = criticised[0] if criticised else len(answers) - 1
    place = answers[number] if 0 <= number < len(answers) else len(episode.turns)
    if place == 0 or episode.turns[place - 1].role == "assistant":
        return append_to_prompt(episode, text)
    turns = list(episode.turns)
    turns[place - 1] = replace(turns[place - 1], text=f"{turns[place - 1].text}\n\n{text}")
    return replace(episode, turns=tuple(turns))


def append_to_messages(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with `text` after a blank line at the end of the last user message.

    Raises:
        DataError: where no message is the user's.
    """
    last = max((number for number, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        roles = ", ".join(message["role"] for message in messages)
        remedy = "Place the hint elsewhere: feedback.hints.append_to_system, or a function of your own."
        raise DataError("config", None, "hint.place", f"no user message, but {roles}", "one to follow", remedy)
    return [_append_text(message, text) if number == last else dict(message) for number, message in enumerate(messages)]


def _append_text(message: Message, text: str) -> Message:
    return {**message, "content": f"{message['content']}\n\n{text}"}


def _replace_messages(episode: Episode, messages: Sequence[Message]) -> Episode:
    return replace(episode, task=replace(episode.task, messages=tuple(messages)))
