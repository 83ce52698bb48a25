"""OpenAssistant conversations (arXiv 2304.07327): trees of messages, whole or one message a line.

Every assistant's message is an answer to the path that leads to it, and siblings with ranks are compared: rank 0 is the
best. Deleted messages are left out with all that follows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from feedback.readers.base import Reader, build_task
from feedback.readers.fields import Fields
from feedback.readers.record import Record, reject_record
from feedback.types import Episode, Message, Preference, Turn

ROLES = {"prompter": "user", "assistant": "assistant"}
NODE = ("message_id", "parent_id", "text", "role", "replies", "rank")


class OasstTrees(Reader):
    """An episode for each assistant's message of a tree."""

    name = "oasst-trees"
    columns: ClassVar[tuple[str, ...]] = ("message_tree_id", "prompt")
    takes_scale = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """A tree's id, and its root as an object."""
        return super().is_match(record) and isinstance(record["prompt"], dict)

    def parse(self, fields: Fields) -> list[Episode]:
        """An episode for each answer of the assistant."""
        found = list(_walk_answers(fields.get_object("prompt")))
        if not found and not fields.faults:
            replies = fields.get_object("prompt").get("replies")
            fields.refuse("prompt.replies", replies, "at least one answer of the assistant")
        return found


class OasstMessages(OasstTrees):
    """The same, from a file of one message a line."""

    name = "oasst-messages"
    columns = ("message_id", "parent_id", "message_tree_id", "text", "role")

    def is_match(self, record: dict[str, Any]) -> bool:
        """A message that names its tree."""
        return all(name in record for name in self.columns) and "prompt" not in record

    def merge(self, path: str | Path, records: Iterator[Record]) -> Iterator[Record]:
        """Neighbouring messages of one tree as one record that holds the tree; a broken line stays a record."""
        for tree, members in groupby(records, lambda record: record.fields.get("message_tree_id")):
            group = list(members)
            if tree is None:
                yield from group
            else:
                yield _build_tree(group)


def _walk_answers(root: Fields) -> Iterator[Episode]:
    """Walks a tree without recursion, since a path may be longer than Python's stack."""
    waiting: list[tuple[list[Fields], tuple[Message, ...]]] = [([root], ())]
    while waiting:
        siblings, path = waiting.pop()
        siblings = [node for node in siblings if not node.get_flag("deleted")]
        ranks = {node.get_text("message_id"): node.get_int("rank") for node in siblings}
        for node in siblings:
            message = {"role": _read_role(node), "content": node.get_text("text", required=True) or ""}
            if message["role"] == "assistant":
                yield _build_answer(node, path, message, ranks)
            waiting.append((node.get_objects("replies"), (*path, message)))


def _read_role(node: Fields) -> str:
    role = node.get("role")
    if not isinstance(role, str) or role not in ROLES:
        node.refuse("role", role, "prompter or assistant")
        return ""
    return ROLES[role]


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


def _build_tree(group: list[Record]) -> Record:
    first = group[0]
    whole = Record(first.file, first.line, raw=b"".join(record.raw for record in group), unit=first.unit)
    nodes: dict[Any, dict[str, Any]] = {}
    for record in group:
        name = record.fields.get("message_id")
        parent = record.fields.get("parent_id")
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
