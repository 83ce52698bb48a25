"""Conversations that a chat template refuses, or of which it leaves something out, are named before anything trains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fdt.data.chat.calls import get_tools, render_conversation, wrap_call
from fdt.data.chat.template import REFUSALS
from fdt.errors import UserError
from feedback.types import Episode, Message, Task, Turn

REMEDY = "Leave the row out, write it in roles that the template knows, or train a model whose template has them"


def check_conversations(episodes: Iterable[Episode | Task], tokenizer: Any, file: str | Path | None = None) -> None:
    """Renders each kind of conversation once, with a word of its own in place of each text, each call and the tools:
    equal roles in equal order, with calls in equal places, are treated alike by a template.

    Args:
        episodes: recorded episodes, up to their last answer, or the tasks of prompts.
        tokenizer: holds the template.
        file: where they are from.

    Raises:
        UserError: for the first row that the template refuses or of which something leaves no trace.
    """
    known: dict[Any, str | None] = {}
    for row in episodes:
        task = row.task if isinstance(row, Episode) else row
        turns = row.turns if isinstance(row, Episode) else ()
        marked = mark_messages([*task.messages, *map(as_marked, turns[: count_read(turns)])])
        tools = bool(get_tools(task))
        kind = json.dumps([marked, tools])
        if kind not in known:
            known[kind] = find_fault(marked, tools, tokenizer)
        fault = known[kind]
        if fault is not None:
            name = row.id if isinstance(row, Episode) else task.key
            line = find_line(file, name)
            raise UserError(
                f"{'' if line is None else f'line {line}, '}id {name}: the model's chat template {fault}",
                got=", ".join(message["role"] for message in marked),
                expected="a conversation that the template shows whole",
                path=file,
                remedy=REMEDY,
            )


def count_read(turns: Sequence[Turn]) -> int:
    """How many turns there are before the last answer, which follows what is read."""
    return max((n for n, turn in enumerate(turns) if turn.role == "assistant"), default=0)


def as_marked(turn: Turn) -> Message:
    """A turn as a message; the policy's own calls are words of its answer, whatever the template does with calls."""
    found: Message = {"role": turn.role, "content": turn.text or ("x" if turn.calls else "")}
    return found if turn.call_id is None else found | {"tool_call_id": turn.call_id}


def mark_messages(messages: Sequence[Message]) -> list[Message]:
    """The messages with a word of its own in place of each text and each call's name; what is empty stays empty."""
    marked = []
    for number, message in enumerate(messages):
        found: Message = {"role": message["role"], "content": f"x{number}w" if message.get("content") else ""}
        if calls := message.get("tool_calls"):
            names = [f"x{number}f{place}" for place in range(len(calls))]
            found["tool_calls"] = [wrap_call("call00001", {"name": n, "arguments": {"x7k": "x7v"}}) for n in names]
        marked.append(found | ({"tool_call_id": "call00001"} if "tool_call_id" in message else {}))
    return marked


def find_fault(marked: Sequence[Message], tools: bool, tokenizer: Any) -> str | None:
    """What the template does wrong with marked messages; None where it shows all of them."""
    tool = {"type": "function", "function": {"name": "x7t", "description": "x7t", "parameters": {}}}
    described = [tool] if tools else []
    try:
        text = render_conversation(marked, tokenizer, described)
    except REFUSALS as fault:
        return f"refuses it ({fault})"
    if tools and "x7t" not in text:
        return "shows nothing of its tools"
    for number, message in enumerate(marked):
        if message["content"] and message["content"] not in text:
            return f"leaves out message {number + 1}, of role {message['role']}"
        for call in message.get("tool_calls", ()):
            if call["function"]["name"] not in text or "x7v" not in text:
                return f"leaves out a tool call of message {number + 1}"
    return None


def find_line(file: str | Path | None, name: str) -> int | None:
    """The line of a text file that holds a row's id, from 1; None where none does, or the file is none of text."""
    if file is None or not Path(file).is_file() or Path(file).suffix not in (".jsonl", ".json", ".csv", ".tsv"):
        return None
    if name.startswith("line-") and name[5:].isdecimal():
        return int(name[5:])
    quoted = json.dumps(name)
    with Path(file).open(encoding="utf-8", errors="replace") as lines:
        holds = (quoted in line or line.startswith(f"{name},") for line in lines)
        return next((number for number, found in enumerate(holds, 1) if found), None)
