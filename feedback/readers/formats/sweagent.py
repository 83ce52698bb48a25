"""SWE-agent's trajectories (`.traj`): what the agent answered at each step, and what the environment showed it then."""

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
        turns = [turn for number, step in enumerate(steps) for turn in _read_turns(step, number == len(steps) - 1)]
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


def _read_turns(step: Fields, last: bool) -> list[Turn]:
    answer = step.get_text("response") or "\n".join(filter(None, (step.get_text("thought"), step.get_text("action"))))
    message = chat.read_message(
        step.replace_values({"role": "assistant", "content": answer, "tool_calls": step.get("tool_calls")})
    )
    observation = step.get_text("observation")
    call_ids = step.get_list("tool_call_ids")
    role = "tool" if call_ids else "user"
    call_id = call_ids[0] if call_ids and isinstance(call_ids[0], str) else None
    reply = [] if observation is None and last else [Turn(role, observation or "", call_id=call_id)]
    return [chat.to_turn(message), *reply]
