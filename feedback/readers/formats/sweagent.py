"""SWE-agent's trajectories (`.traj`): what the agent answered at each step, and what the environment showed it then."""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Format, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Message, Turn

ASKED = ("query", "messages", "message")
"""Where a step keeps what the model read; the name changed with the versions."""


def read_sweagent(fields: Fields) -> list[Episode]:
    """One run as a dialogue: the prompt is what the first step read, or the history before the first answer."""
    steps = fields.get_objects("trajectory")
    if not steps:
        fields.refuse("trajectory", fields.get("trajectory"), "at least one step")
    messages = _read_prompt(fields, steps)
    turns = [turn for number, step in enumerate(steps) for turn in _read_turns(step, number == len(steps) - 1)]
    task = build_task(fields, messages, ("trajectory", "history", "id", "instance_id"))
    return [Episode(read_id(fields, "instance_id", "id"), task, tuple(turns))]


def _read_prompt(fields: Fields, steps: list[Fields]) -> tuple[Message, ...]:
    for step in steps[:1]:
        for name in ASKED:
            if step.get(name) is not None:
                return chat.read_prompt(step, name, loose=True)
    history = chat.read_messages(fields, "history", loose=True)
    begun = next((n for n, message in enumerate(history) if message["role"] == "assistant"), len(history))
    return chat.check_prompt(fields, "history", history[:begun])


def _read_turns(step: Fields, last: bool) -> list[Turn]:
    answer = step.get_text("response") or "\n".join(filter(None, (step.get_text("thought"), step.get_text("action"))))
    message = chat.read_message(
        step.replace_values({"role": "assistant", "content": answer, "tool_calls": step.get("tool_calls")})
    )
    seen, call_ids = step.get_text("observation"), step.get_list("tool_call_ids")
    role = "tool" if call_ids else "user"
    call_id = call_ids[0] if call_ids and isinstance(call_ids[0], str) else None
    shown = [] if seen is None and last else [Turn(role, seen or "", call_id=call_id)]
    return [chat.to_turn(message), *shown]


def _has_steps(record: dict[str, Any]) -> bool:
    return isinstance(record["trajectory"], list)


SWEAGENT = Format("swe-agent", read_sweagent, ("trajectory",), _has_steps)
