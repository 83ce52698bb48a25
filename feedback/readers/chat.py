"""Messages of a chat, as OpenAI and most others write them: role, content, tool calls."""

from __future__ import annotations

import json
from typing import Any

from feedback.readers.fields import Fields
from feedback.types import Message, Turn

ROLES = ("system", "developer", "user", "assistant", "tool")
KEYS = ("role", "content", "tool_calls", "tool_call_id")
SAMPLED = ("ids", "log_probs", "sampled")
"""What a message of an episode that fdt wrote may hold besides: the tokens that the policy sampled."""


def read_messages(fields: Fields, path: str, more: tuple[str, ...] = (), allow_unknown: bool = False) -> list[Message]:
    """The messages at a path, each with role and content and what else it has of `KEYS` and `more`.

    Any other key is refused; with `allow_unknown` it is left out, for logs whose messages hold notes of a program.
    """
    return [read_message(item, more, allow_unknown) for item in fields.get_objects(path)]


def read_prompt(fields: Fields, path: str, allow_unknown: bool = False) -> tuple[Message, ...]:
    """A prompt: text becomes one user message, a list of messages stays one."""
    value = fields.get(path)
    if isinstance(value, str) and value:
        return build_user_prompt(value)
    if isinstance(value, list) and value:
        return check_prompt(fields, path, read_messages(fields, path, allow_unknown=allow_unknown))
    fields.refuse(path, value, "text, or a list of messages {role, content}", "Fill it or leave the row out.")
    return ()


def read_answer(fields: Fields, path: str) -> tuple[Turn, ...]:
    """An answer: text, or a list of messages that begins with the assistant's."""
    value = fields.get(path)
    if not isinstance(value, list):
        return build_answer(fields.get_text(path, required=True) or "")
    found = read_messages(fields, path)
    if not found or found[0]["role"] != "assistant":
        fields.refuse(path, value, "messages that begin with the assistant's")
    return tuple(to_turn(message) for message in found)


def check_prompt(fields: Fields, path: str, found: list[Message]) -> tuple[Message, ...]:
    """The messages as a prompt: somebody asks, and an answer comes next."""
    if not found:
        fields.refuse(path, None, "at least one message before the answer")
    elif found[-1]["role"] not in ("user", "tool"):
        fields.refuse(f"{path}[-1].role", found[-1]["role"], "user or tool, which the response answers")
    elif all(message["role"] != "user" for message in found):
        fields.refuse(path, [message["role"] for message in found], "at least one message of the user")
    return tuple(found)


def build_user_prompt(text: str) -> tuple[Message, ...]:
    """A prompt of one message."""
    return ({"role": "user", "content": text},)


def build_answer(text: str) -> tuple[Turn, ...]:
    """An answer of one turn."""
    return (Turn("assistant", text),)


def to_turn(message: Message) -> Turn:
    """A message as a turn of an episode."""
    calls = tuple({"id": call["id"], **call["function"]} for call in message.get("tool_calls", ()))
    ids, log_probs = (tuple(message[name]) if name in message else None for name in ("ids", "log_probs"))
    sampled = message.get("sampled", False)
    return Turn(message["role"], message["content"], ids, log_probs, sampled, calls, message.get("tool_call_id"))


def to_message(turn: Turn) -> Message:
    """A turn as a message; `to_turn` gives the turn back."""
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in turn.calls
        ]
    kept = {"tool_call_id": turn.call_id, "ids": turn.ids, "log_probs": turn.log_probs, "sampled": turn.sampled or None}
    return message | {
        name: list(value) if isinstance(value, tuple) else value for name, value in kept.items() if value is not None
    }


def read_message(fields: Fields, more: tuple[str, ...] = (), allow_unknown: bool = False) -> Message:
    """One message; `read_messages` says what `more` and `allow_unknown` do."""
    unknown = {} if allow_unknown else fields.collect_rest((*KEYS, *more))
    if unknown:
        fields.refuse(
            next(iter(unknown)),
            next(iter(unknown.values())),
            "no such key in a message",
            "Keep what it says elsewhere, in a column of its own.",
        )
    if fields.get("role") not in ROLES:
        fields.refuse("role", fields.get("role"), "one of " + ", ".join(ROLES))
    found: Message = {"role": fields.get("role"), "content": _read_content(fields)}
    calls = [_read_call(item, number) for number, item in enumerate(fields.get_objects("tool_calls"))]
    call_id = fields.get_label("tool_call_id")
    return (
        found
        | ({"tool_calls": calls} if calls else {})
        | ({"tool_call_id": call_id} if call_id else {})
        | {name: _read_sampled(fields, name) for name in more if fields.get(name) is not None}
    )


def _read_content(fields: Fields) -> str:
    """The words: text, or parts that are all text; nothing beside tool calls."""
    value = fields.get("content")
    if isinstance(value, list):
        parts = fields.get_objects("content")
        for part in parts:
            if part.get("type") not in ("text", "input_text", "output_text", None) or part.get("text") is None:
                part.refuse("type", part.get("type"), "text", "Pictures and sounds are not read.")
        return "".join(part.get_text("text") or "" for part in parts)
    if not isinstance(value, str) and not (value is None and fields.get_list("tool_calls")):
        fields.refuse("content", value, "text")
    return value if isinstance(value, str) else ""


def _read_call(fields: Fields, number: int) -> dict[str, Any]:
    """A tool call, nested as OpenAI does or flat, its arguments as JSON text."""
    inner = fields.get_object("function") if fields.get("function") is not None else fields
    arguments = inner.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif arguments is not None and not isinstance(arguments, str):
        inner.refuse("arguments", arguments, "text or an object")
    name = inner.get_text("name", required=True)
    return {
        "id": fields.get_label("id") or f"call-{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments or ""},
    }


def _read_sampled(fields: Fields, name: str) -> Any:
    if name not in ("ids", "log_probs"):
        return fields.get_flag(name)
    value = fields.get_list(name)
    if name == "ids" and not all(type(part) is int and 0 <= part < 2**31 for part in value):
        fields.refuse(name, value, "token ids")
    elif name == "log_probs" and not all(type(part) in (int, float) and -1e300 < part <= 0 for part in value):
        fields.refuse(name, value, "log-probabilities: finite numbers, none above 0")
    return value
