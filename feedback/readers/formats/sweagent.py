"""SWE-agent's trajectories (`.traj`): what the agent answered at each step, and what the environment showed it then."""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Format, name_of, task_of
from feedback.readers.fields import Fields
from feedback.types import Episode, Message, Turn

ASKED = ("query", "messages", "message")
"""Where a step keeps what the model read; the name changed with the versions."""


def sweagent_episodes(fields: Fields) -> list[Episode]:
    """One run as a dialogue: the prompt is what the first step read, or the history before the first answer."""
    steps = fields.items("trajectory")
    if not steps:
        fields.refuse("trajectory", fields.get("trajectory"), "at least one step")
    messages = _prompt(fields, steps)
    turns = [turn for number, step in enumerate(steps) for turn in _turns(step, number == len(steps) - 1)]
    task = task_of(fields, messages, ("trajectory", "history", "id", "instance_id"))
    return [Episode(name_of(fields, "instance_id", "id"), task, tuple(turns))]


def _prompt(fields: Fields, steps: list[Fields]) -> tuple[Message, ...]:
    for step in steps[:1]:
        for name in ASKED:
            if step.get(name) is not None:
                return chat.prompt(step, name, loose=True)
    history = chat.messages(fields, "history", loose=True)
    begun = next((n for n, message in enumerate(history) if message["role"] == "assistant"), len(history))
    return chat.asked(fields, "history", history[:begun])


def _turns(step: Fields, last: bool) -> list[Turn]:
    answer = step.text("response") or "\n".join(filter(None, (step.text("thought"), step.text("action"))))
    message = chat.message(step.holding({"role": "assistant", "content": answer, "tool_calls": step.get("tool_calls")}))
    seen, call_ids = step.text("observation"), step.listed("tool_call_ids")
    role = "tool" if call_ids else "user"
    call_id = call_ids[0] if call_ids and isinstance(call_ids[0], str) else None
    shown = [] if seen is None and last else [Turn(role, seen or "", call_id=call_id)]
    return [chat.turn_of(message), *shown]


def _has_steps(record: dict[str, Any]) -> bool:
    return isinstance(record["trajectory"], list)


SWEAGENT = Format("swe-agent", sweagent_episodes, ("trajectory",), _has_steps)
