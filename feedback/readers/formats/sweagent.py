"""SWE-agent's trajectories (`.traj`): what the agent answered at each step, and what the environment showed it then.

The action is a part of the answer: in its words, or as a tool call, which some versions note in the history alone.
"""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Message, Turn

QUERIES = ("query", "messages", "message")
"""Where a step keeps what the model read; the name changed with the versions."""


class SWEAgent(Reader):
    """One run as a dialogue: the prompt is what the first step read, or the history before the first answer."""

    name = "swe-agent"
    columns = ("trajectory",)
    takes_scale = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """A list `trajectory`."""
        return isinstance(record.get("trajectory"), list)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        steps = fields.get_objects("trajectory")
        if not steps:
            fields.refuse("trajectory", fields.get("trajectory"), "at least one step")
        messages = _read_prompt(fields, steps)
        recorded = _match_history(fields, steps)
        turns = [
            turn
            for number, (step, message) in enumerate(zip(steps, recorded, strict=True))
            for turn in _read_turns(step, message, number == len(steps) - 1)
        ]
        task = build_task(fields, messages, ("trajectory", "history", "id", "instance_id"))
        return [Episode(read_id(fields, "instance_id", "id"), task, tuple(turns))]


def _read_prompt(fields: Fields, steps: list[Fields]) -> tuple[Message, ...]:
    for step in steps[:1]:
        for name in QUERIES:
            if step.get(name) is not None:
                return chat.read_prompt(step, name, allow_unknown=True)
    history = chat.read_messages(fields, "history", allow_unknown=True)
    start = next((n for n, message in enumerate(history) if message["role"] == "assistant"), len(history))
    return chat.check_prompt(fields, "history", history[:start])


def _match_history(fields: Fields, steps: list[Fields]) -> list[Fields | None]:
    """For each step the message of the history that holds the same action; None where there is none."""
    answers = [
        item
        for item in fields.get_objects("history")
        if item.get("role") == "assistant" and item.get("is_demo") is not True
    ]
    found: list[Fields | None] = []
    place = 0
    for step in steps:
        at = next((n for n in range(place, len(answers)) if answers[n].get("action") == step.get("action")), None)
        found.append(None if at is None else answers[at])
        place = place if at is None else at + 1
    return found


def _read_turns(step: Fields, recorded: Fields | None, last: bool) -> list[Turn]:
    """The answer of a step, its action included, and what the environment showed then."""
    calls = step.get("tool_calls") or (recorded.get("tool_calls") if recorded is not None else None)
    words = step.get_text("response") or step.get_text("thought") or ""
    action = (step.get_text("action") or "").strip()
    if action and not calls and action.casefold() not in words.casefold():
        words = f"{words}\n\n```\n{action}\n```".lstrip("\n")
    message = chat.read_message(
        step.replace_values({"role": "assistant", "content": words, "tool_calls": calls}), allow_unknown=True
    )
    turn = chat.to_turn(message)
    observation = step.get_text("observation")
    call_ids = step.get_list("tool_call_ids") or [call["id"] for call in turn.calls]
    role = "tool" if call_ids else "user"
    call_id = call_ids[0] if call_ids and isinstance(call_ids[0], str) else None
    return [turn, *([] if observation is None and last else [Turn(role, observation or "", call_id=call_id)])]
