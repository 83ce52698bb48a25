"""Lists that a table holds as text: messages of a chat and schemas of tools, as JSON or in Python's notation."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from feedback.readers.fields import Fields
from feedback.readers.record import parse_json

MESSAGES = re.compile(
    r"[ \t\r\n]*(\[\s*\{\s*['\"](role|content|from)['\"]\s*:|\{\s*['\"]messages['\"]\s*:\s*\["
    r"|\{\s*['\"]role['\"]\s*:\s*['\"](system|developer|user|assistant|tool)['\"]\s*,\s*['\"]content['\"]\s*:)"
)
"""How a text begins that is a list of messages, an object that holds one, or a message, in JSON or in Python's
notation."""
TOOLS = "tools"
"""The column of the tools that the policy may call, which the chat template writes out."""
SPEAKERS = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
"""What stands before each message of a dialogue that is one text, as in HH-RLHF."""


def parse_messages(text: str) -> list[Any] | None:
    """The messages that a text holds as JSON or in Python's notation; None where it does not begin as a list of them.

    Raises ValueError, with the reason, for one that begins so and is no such list.
    """
    if not MESSAGES.match(text):
        return None
    value = parse_literal(text)
    if isinstance(value, dict):
        if "messages" in value and len(value) > 1:
            raise ValueError(f"{', '.join(name for name in value if name != 'messages')} beside the messages")
        value = value.get("messages", [value])
    if not all(isinstance(message, dict) and ("role" in message or "from" in message) for message in value):
        raise ValueError("an item without a role")
    return value


def parse_dialogue(text: str) -> list[dict[str, str]] | None:
    """The messages of a dialogue that is one text, of a `Human:` and an `Assistant:`; None for any other text."""
    start, *parts = SPEAKERS.split(text)
    if start or len(parts) < 4 or parts[0] != "Human":
        return None
    said = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": "user" if who == "Human" else "assistant", "content": words} for who, words in said]


def parse_literal(text: str) -> Any:
    """The value that a text holds as JSON, or in Python's notation, which is how pandas writes lists into a table.

    Raises ValueError where it is neither, with what is wrong with it as JSON.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        try:
            tree = ast.parse(text.strip(), mode="eval")
            _check_keys(tree)
            return parse_json(json.dumps(ast.literal_eval(tree)))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise error from None


def _check_keys(tree: ast.AST) -> None:
    """Raises ValueError for an object that has a key twice, of which Python would keep the last."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if len(keys) != len(set(keys)):
                raise ValueError("a key stands twice")


def unpack_tools(fields: Fields) -> None:
    """Makes text in the column `tools` the list that it holds; refuses what begins as one and is none.

    Any other text stays what it is, a note.
    """
    value = fields.value.get(TOOLS)
    if not isinstance(value, str) or not value.lstrip().startswith(("[{", "[ {", "[]")):
        return
    try:
        found = parse_literal(value)
    except ValueError as error:
        fields.refuse(TOOLS, value, f"a list of tools as JSON ({error})", "Write the list with json.dumps.")
    else:
        fields.value = fields.value | {TOOLS: found}
