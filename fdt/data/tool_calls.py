"""Tool calls as text, for models whose template knows no tools: JSON between two fences, and what it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

OPENING = re.compile(r"```tool[^\S\n]*+\n|<tool_call>")
"""A fenced block, or the tag that some models were trained on."""


def format_calls(calls: Sequence[dict[str, Any]]) -> str:
    """OpenAI-shaped calls as a policy writes them."""
    lines = [f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}' for call in calls]
    return "\n".join(f"```tool\n{line}\n```" for line in lines)


def find_bodies(text: str) -> Iterator[str]:
    """What stands between each opening and the next closing of its kind; an opening that is never closed is text."""
    done = 0
    never_closed = set()
    for match in OPENING.finditer(text):
        closing = "</tool_call>" if match[0] == "<tool_call>" else "```"
        if match.start() < done or closing in never_closed:
            continue
        end = text.find(closing, match.end())
        if end < 0:
            never_closed.add(closing)
        else:
            yield text[match.end() : end].strip()
            done = end + len(closing)


def read_calls(text: str) -> list[dict[str, Any]]:
    """The calls in a text, each `{"id", "name", "arguments"}` with the arguments as JSON text.

    Raises:
        ValueError: where one is not a JSON object with a name and an object of arguments; says what is wrong with it.
    """
    found = []
    for number, body in enumerate(find_bodies(text)):
        try:
            call = json.loads(body)
        except (ValueError, RecursionError) as fault:
            raise ValueError(f"the call is not JSON ({fault})") from fault
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ValueError('the call is no object with a "name"')
        if not isinstance(call.get("arguments", {}), dict):
            raise ValueError('"arguments" is no object')
        arguments = json.dumps(call.get("arguments", {}))
        found.append({"id": f"call_{number}", "name": call["name"], "arguments": arguments})
    return found
