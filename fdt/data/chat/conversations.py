"""Conversations that a chat template refuses, or of which it leaves something out, are named before anything trains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from fdt.data.chat.calls import DEVELOPER, get_tools, is_developer_unknown, render_conversation, wrap_call
from fdt.data.chat.control_tokens import get_template_source
from fdt.data.chat.template import REFUSALS, get_template_variables
from fdt.errors import UserError
from feedback.types import Episode, Message, Task, Turn

REMEDY = "Leave the row out, write it in roles that the template knows, or train a model whose template has them"


@dataclass(frozen=True)
class Kinds:
    """Which rows a template may treat in ways of their own."""

    first: tuple[int, ...]
    """The number of the first row of each kind, in order."""
    developers: int
    """Rows with a message of the role developer."""


def find_kinds(rows: Iterable[Episode | Task]) -> Kinds:
    """The kinds of conversation among rows: equal roles in equal order, with calls in equal places, are one."""
    first: dict[Any, int] = {}
    developers = 0
    for number, row in enumerate(rows):
        task = row.task if isinstance(row, Episode) else row
        turns = row.turns if isinstance(row, Episode) else ()
        marks = tuple(map(mark_kind, task.messages))
        if len(turns) > 1:
            marks += tuple(mark_kind(as_marked(turn)) for turn in turns[: count_read(turns)])
        has_tools = "tools" in task.meta and bool(get_tools(task))
        first.setdefault((marks, has_tools), number)
        developers += any(mark[0] == DEVELOPER for mark in marks)
    return Kinds(tuple(first.values()), developers)


def mark_kind(message: Message) -> tuple[str, bool, int, bool]:
    """What of a message `mark_messages` keeps."""
    calls = message.get("tool_calls")
    return message["role"], bool(message.get("content")), len(calls) if calls else 0, "tool_call_id" in message


def check_conversations(
    rows: Sequence[Episode | Task], tokenizer: Any, file: str | Path | None = None, kinds: Kinds | None = None
) -> None:
    """Renders each kind of conversation once, with a word of its own in place of each text, each call and the tools.

    Args:
        rows: recorded episodes, up to their last answer, or the tasks of prompts.
        tokenizer: holds the template.
        file: where they are from.
        kinds: what `find_kinds` finds, where that is known.

    Raises:
        UserError: for the first row that the template refuses or of which something leaves no trace.
    """
    kinds = find_kinds(rows) if kinds is None else kinds
    for number in kinds.first:
        row = rows[number]
        task = row.task if isinstance(row, Episode) else row
        turns = row.turns if isinstance(row, Episode) else ()
        messages = [*task.messages, *map(as_marked, turns[: count_read(turns)])]
        name = row.id if isinstance(row, Episode) else task.key
        check_messages_shown(messages, bool(get_tools(task)), tokenizer, name, file)
    if kinds.developers and is_developer_unknown(tokenizer):
        told = f"{kinds.developers} rows: the role developer is rendered as system, as the chat template lacks it"
        rank_zero_info(told)


def check_messages_shown(
    messages: Sequence[Message], has_tools: bool, tokenizer: Any, name: str, file: str | Path | None = None
) -> None:
    """
    Args:
        messages: a conversation.
        has_tools: whether tools are described beside it.
        tokenizer: holds the template.
        name: the id of its row.
        file: where it is from; None for an environment.

    Raises:
        UserError: where the template refuses it or something of it leaves no trace.
    """
    marked = mark_messages(messages)
    variables = json.dumps(get_template_variables(tokenizer), default=str)
    fault = _find_fault(json.dumps(marked), has_tools, tokenizer, get_template_source(tokenizer) + variables)
    if fault is not None:
        line = find_line(file, name)
        raise UserError(
            f"{'' if line is None else f'line {line}, '}id {name}: the model's chat template {fault}",
            got=", ".join(message["role"] for message in marked),
            expected="a conversation that the template shows whole",
            path=file,
            remedy=REMEDY,
        )


@lru_cache(maxsize=256)
def _find_fault(marked: str, tools: bool, tokenizer: Any, settings: str) -> str | None:
    """`find_fault`, once for each kind of conversation, template and its variables."""
    return find_fault(json.loads(marked), tools, tokenizer)


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
