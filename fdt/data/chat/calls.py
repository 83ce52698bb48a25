"""Tool calls as a chat template takes and writes them: what it shows as objects, and the words of a turn that calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fdt.data.chat.control_tokens import find_control_tokens, get_template_source
from fdt.data.chat.template import PROBE, REFUSALS, render_messages
from fdt.data.tool_calls import format_calls
from feedback.types import Message, Task

CONTENT = "x8w"
"""Stands for what a turn says before its calls; no template writes it."""
DEVELOPER = "developer"
"""OpenAI's later name for the role of the system."""
NAME = "x9f"
"""Name of the call that a template is tried with."""


@dataclass(frozen=True)
class CallStyle:
    """How a template takes an assistant's message with calls, so that it writes them once and whole."""

    objects: bool
    """Arguments are an object; else they are JSON text."""
    empty: str | None
    """The content of a message that says nothing beside its calls."""


STYLES = tuple(CallStyle(objects, empty) for objects in (True, False) for empty in ("", None))


def find_call_style(tokenizer: Any) -> CallStyle | None:
    """The first way in which the template shows a call; None where it shows none."""
    return _find_call_style(tokenizer, get_template_source(tokenizer))


@lru_cache(maxsize=8)
def _find_call_style(tokenizer: Any, source: str) -> CallStyle | None:
    for style in STYLES:
        arguments: Any = {"x7k": "x7v"}
        call = {"name": NAME, "arguments": arguments if style.objects else json.dumps(arguments)}
        message = {"role": "assistant", "content": style.empty, "tool_calls": [wrap_call("call00001", call)]}
        try:
            text = render_messages([*PROBE, message], tokenizer, add_generation_prompt=False)
        except REFUSALS:
            continue
        if all(word in text for word in (NAME, "x7k", "x7v")) and '\\"' not in text:
            return style
    return None


def is_developer_unknown(tokenizer: Any) -> bool:
    """Whether the template shows no message of the role `developer`, which OpenAI's API has in place of `system`; such
    messages are then rendered as the system's."""
    return _is_developer_unknown(tokenizer, get_template_source(tokenizer))


@lru_cache(maxsize=8)
def _is_developer_unknown(tokenizer: Any, source: str) -> bool:
    try:
        return CONTENT not in render_messages([{"role": DEVELOPER, "content": CONTENT}, *PROBE], tokenizer)
    except REFUSALS:
        return True


def wrap_call(name: str | None, function: Mapping[str, Any]) -> dict[str, Any]:
    """A call as OpenAI's messages hold it."""
    return {"id": name, "type": "function", "function": dict(function)}


def parse_arguments(message: Any) -> Any:
    """The message with the arguments of its calls as objects; what is no JSON stays text."""
    if not isinstance(message, dict) or not message.get("tool_calls"):
        return message
    calls = message["tool_calls"]
    return {**message, "tool_calls": [c | {"function": _parse(c["function"])} if "function" in c else c for c in calls]}


def _parse(function: Mapping[str, Any]) -> dict[str, Any]:
    given = function.get("arguments")
    try:
        return {**function, "arguments": json.loads(given) if isinstance(given, str) else given}
    except (ValueError, RecursionError):
        return dict(function)


def render_conversation(
    messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] = (), add_generation_prompt: bool = True
) -> str:
    """As `fdt.data.chat.template.render_messages`, with calls and developers as the template takes them."""
    style = find_call_style(tokenizer) if any(message.get("tool_calls") for message in messages) else None
    if is_developer_unknown(tokenizer) and any(message["role"] == DEVELOPER for message in messages):
        messages = [{**m, "role": "system"} if m["role"] == DEVELOPER else m for m in messages]
    shaped = [shape_message(message, style) for message in messages]
    return render_messages(shaped, tokenizer, tools, add_generation_prompt)


def shape_message(message: Message, style: CallStyle | None) -> Message:
    """A message with calls as the template takes it."""
    if style is None or not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function", {})
        given = function.get("arguments")
        if not style.objects and given is not None and not isinstance(given, str):
            call = {**call, "function": {**function, "arguments": json.dumps(given, ensure_ascii=False)}}
        calls.append(call)
    return {**message, "content": message.get("content") or style.empty, "tool_calls": calls}


def format_native_calls(calls: Sequence[dict[str, Any]], tokenizer: Any) -> str:
    """Calls as the template has the policy write them; JSON between fences where the template knows no calls.

    Args:
        calls: each `{"id", "name", "arguments"}`, the arguments as JSON text.
        tokenizer: holds the template.
    """
    style = find_call_style(tokenizer)
    if style is None or not calls:
        return format_calls(calls)
    wrapped = [wrap_call(call.get("id") or "call00001", {n: call[n] for n in ("name", "arguments")}) for call in calls]
    message = parse_arguments({"role": "assistant", "content": CONTENT, "tool_calls": wrapped})
    begun = render_messages(PROBE, tokenizer)
    for content in (CONTENT, style.empty):
        try:
            shaped = shape_message({**message, "content": content}, style)
            text = render_messages([*PROBE, shaped], tokenizer, add_generation_prompt=False)
        except REFUSALS:
            continue
        written = text.partition(CONTENT)[2] if content == CONTENT else text.removeprefix(begun)
        if calls[0]["name"] in written:
            return cut_at_control(written, tokenizer).strip("\n")
    return format_calls(calls)


def cut_at_control(text: str, tokenizer: Any) -> str:
    """The text up to the first control token that a policy does not write in its own turns."""
    known = find_control_tokens(tokenizer)
    end = next((found.start() for found in known.pattern.finditer(text) if found[0] not in known.own), len(text))
    return text[:end]


def get_tools(task: Task) -> tuple[Any, ...]:
    """The tools that a row describes in its column `tools`, as JSON schemas or as their text; none where it names them
    only, or there is no such column."""
    given = task.meta.get("tools")
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    described = [isinstance(tool, dict) and ("function" in tool or "name" in tool) for tool in found]
    return tuple(found) if all(described) else ()
