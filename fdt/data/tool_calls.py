"""Tool calls as text, for models whose template knows no tools: JSON between two fences, and what it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

CALL = re.compile(r"```tool\s*\n(.*?)```|<tool_call>(.*?)</tool_call>", re.DOTALL)
"""A fenced block, or the tag that some models were trained on."""


def format_calls(calls: Sequence[dict[str, Any]]) -> str:
    """OpenAI-shaped calls as a policy writes them."""
    lines = [f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}' for call in calls]
    return "\n".join(f"```tool\n{line}\n```" for line in lines)


def read_calls(text: str) -> list[dict[str, Any]]:
    """The calls in a text, each `{"id", "name", "arguments"}` with the arguments as JSON text.

    Raises:
        ValueError: where one is not a JSON object with a name and an object of arguments; says what is wrong with it.
    """
    found = []
    for number, match in enumerate(CALL.finditer(text)):
        body = next(group for group in match.groups() if group is not None).strip()
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
