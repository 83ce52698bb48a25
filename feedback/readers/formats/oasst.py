"""OpenAssistant conversations (arXiv 2304.07327): trees of messages, whole or one message a line.

Every assistant's message is an answer to the path that leads to it, and siblings with ranks are compared: rank 0 is the
best. Deleted messages are left out with all that follows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from feedback.readers.base import Format, build_task
from feedback.readers.fields import Fields
from feedback.readers.record import Record, reject_record
from feedback.types import Episode, Message, Preference, Turn

ROLES = {"prompter": "user", "assistant": "assistant"}
NODE = ("message_id", "parent_id", "text", "role", "replies", "rank")


def read_tree(fields: Fields) -> list[Episode]:
    """An episode for each assistant's message of a tree."""
    found = list(_walk_answers(fields, fields.get_object("prompt"), ()))
    if not found and not fields.faults:
        fields.refuse(
            "prompt.replies", fields.get_object("prompt").get("replies"), "at least one answer of the assistant"
        )
    return found


def _walk_answers(fields: Fields, root: Fields, path: tuple[Message, ...]) -> Iterator[Episode]:
    """Walks a tree without recursion, since a path may be longer than Python's stack."""
    waiting = [([root], path)]
    while waiting:
        siblings, path = waiting.pop()
        siblings = [node for node in siblings if not node.get_flag("deleted")]
        ranks = {node.get_text("message_id"): node.get_int("rank") for node in siblings}
        for node in siblings:
            message = {"role": ROLES.get(node.get("role"), ""), "content": node.get_text("text", required=True) or ""}
            if not message["role"]:
                node.refuse("role", node.get("role"), "prompter or assistant")
            elif message["role"] == "assistant":
                yield _build_answer(node, path, message, ranks)
            waiting.append((node.get_objects("replies"), (*path, message)))


def _build_answer(
    node: Fields, path: tuple[Message, ...], message: Message, ranks: dict[str | None, int | None]
) -> Episode:
    name = node.get_text("message_id", required=True) or ""
    if not path:
        node.refuse("role", "assistant", "prompter, who begins")
    own = ranks.get(name)
    beaten = [
        Preference(other)
        for other, rank in ranks.items()
        if other and own is not None and rank is not None and own < rank
    ]
    turns = (Turn("assistant", message["content"]),)
    return Episode(name, build_task(node, path, NODE), turns, preferences=tuple(beaten))


def merge_messages(path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
    """Neighbouring messages of one tree as one record that holds the tree; a broken line stays a record."""
    for tree, members in groupby(records, lambda record: record.fields.get("message_tree_id")):
        group = list(members)
        if tree is None:
            yield from group
        else:
            yield _build_tree(group)


def _build_tree(group: list[Record]) -> Record:
    first = group[0]
    whole = Record(first.file, first.line, raw=b"".join(record.raw for record in group), unit=first.unit)
    nodes: dict[Any, dict[str, Any]] = {}
    for record in group:
        name, parent = record.fields.get("message_id"), record.fields.get("parent_id")
        if not isinstance(name, str) or name in nodes:
            return reject_record(
                whole, f"message_id {name!r:.80} in line {record.line}", "a name of its own", "Correct it."
            )
        nodes[name] = record.fields | {"replies": []}
        if parent is not None:
            if not isinstance(parent, str) or parent not in nodes or parent == name:
                return reject_record(
                    whole,
                    f"parent_id {parent!r:.80} in line {record.line}",
                    "a message further up",
                    "Keep the messages of a tree together, parents first.",
                )
            nodes[parent]["replies"].append(nodes[name])
    roots = [node for node in nodes.values() if node.get("parent_id") is None]
    if len(roots) != 1:
        return reject_record(
            whole, f"{len(roots)} messages without a parent", "one, which begins the tree", "Correct it."
        )
    whole.fields = {"prompt": roots[0]}
    return whole


def _is_tree(record: dict[str, Any]) -> bool:
    return isinstance(record["prompt"], dict)


def _is_message(record: dict[str, Any]) -> bool:
    return "prompt" not in record


OASST = (
    Format("oasst-trees", read_tree, ("message_tree_id", "prompt"), _is_tree),
    Format(
        "oasst-messages",
        read_tree,
        ("message_id", "parent_id", "message_tree_id", "text", "role"),
        _is_message,
        join=merge_messages,
    ),
)
