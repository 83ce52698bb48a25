"""Open WebUI's exported chats: a thumb up or down, a reason and a comment on single answers.

A chat is a tree: an answer asked for again and a question put in other words are branches. Each path between two
branchings is an episode, so that every answer is read once, with what was said of it.
"""

from __future__ import annotations

from typing import Any

from feedback.readers import chat
from feedback.readers.base import Reader, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback, Message

THUMBS = (-1.0, 1.0)
DETAILS = (1.0, 10.0)
UNSEEN = ("files", "sources", "citations")
"""Keys of a message that name what the policy read besides, and do not hold it as it was read."""


class OpenWebUI(Reader):
    """One chat with the feedback on its answers."""

    name = "open-webui"
    columns = ("chat",)
    takes_scale = False

    def is_match(self, record: dict[str, Any]) -> bool:
        """An object `chat`."""
        return isinstance(record.get("chat"), dict)

    def parse(self, fields: Fields) -> list[Episode]:
        """An episode for each path of answers that no branching divides; one for a chat without branches."""
        given = fields.get_object("chat")
        nodes = given.get_object("history").get_object("messages")
        paths = _walk_tree(nodes) if nodes.value else [([], given.get_objects("messages"))]
        paths = [(before, path) for before, path in paths if any(item.get("role") == "assistant" for item in path)]
        if not paths:
            roles = [item.get("role") for item in given.get_objects("messages")]
            given.refuse("messages", roles, "a message of the assistant")
        name = read_id(fields, "id")
        return [
            _build_episode(fields, name if len(paths) == 1 else f"{name}/{_name_path(path)}", before, path)
            for before, path in paths
        ]


def _build_episode(fields: Fields, name: str, before: list[Fields], path: list[Fields]) -> Episode:
    """One path; `before` is what stood above its first branching, answers included."""
    for item in (*before, *path):
        _refuse_unseen(item)
    found = [chat.read_message(_restore(item), allow_unknown=True) for item in path]
    start = next(n for n, message in enumerate(found) if message["role"] == "assistant")
    opening: list[Message] = [chat.read_message(item, allow_unknown=True) for item in before] + found[:start]
    given = fields.get_object("chat")
    system = given.get_text("system") or given.get_object("params").get_text("system")
    if system is not None and all(message["role"] != "system" for message in opening):
        opening.insert(0, {"role": "system", "content": system})
    messages = chat.check_prompt(fields, "chat.messages", opening)
    answers = [item for item in path[start:] if item.get("role") == "assistant"]
    feedback = [
        judgement
        for turn, item in enumerate(answers)
        if item.get("annotation") is not None
        for judgement in _read_judgements(item.get_object("annotation"), turn, fields.get_label("user_id"))
    ]
    feedback += [
        Feedback("human", fields.get_label("user_id"), "edit", revision=item.get_text("content"), turn=turn)
        for turn, item in enumerate(answers)
        if _is_edited(item)
    ]
    task = build_task(fields, messages, ("id", "chat", "user_id"))
    return Episode(name, task, tuple(chat.to_turn(message) for message in found[start:]), tuple(feedback))


def _refuse_unseen(item: Fields) -> None:
    """Notes what the policy was shown beside a message's words: files, and passages that were looked up."""
    for name in UNSEEN:
        if item.get(name) not in (None, [], {}, ""):
            remedy = f"Write what it read into the content, or delete {name} to train as if it had not been there."
            item.refuse(name, item.get(name), "all that the policy read in the words of the chat", remedy)


def _is_edited(item: Fields) -> bool:
    """Whether somebody wrote an answer anew: what the policy said is then its original content."""
    original = item.get("originalContent")
    return item.get("role") == "assistant" and isinstance(original, str) and original not in ("", item.get("content"))


def _restore(item: Fields) -> Fields:
    """The message as the policy wrote it."""
    return item.replace_values(item.value | {"content": item.get("originalContent")}) if _is_edited(item) else item


def _walk_tree(nodes: Fields) -> list[tuple[list[Fields], list[Fields]]]:
    """The paths of a chat's tree, each with the messages above it: a path ends where the tree branches.

    Walks without recursion, and each message once, since a chat may be long and its links may be broken.
    """
    children: dict[str | None, list[str]] = {}
    for name in nodes.value:
        parent = nodes.get_object(name).get_label("parentId")
        children.setdefault(parent if parent in nodes.value else None, []).append(name)
    waiting: list[tuple[list[Fields], str]] = [([], name) for name in reversed(children.get(None, []))]
    found = []
    while waiting:
        before, name = waiting.pop()
        path = [nodes.get_object(name)]
        below = children.get(name, [])
        while len(below) == 1:
            path.append(nodes.get_object(below[0]))
            below = children.get(below[0], [])
        found.append((before, path))
        waiting += [([*before, *path], name) for name in reversed(below)]
    return found


def _name_path(path: list[Fields]) -> str:
    """The id of the first answer of a path."""
    return next(item.get_label("id") or item.prefix.rstrip(".") for item in path if item.get("role") == "assistant")


def _read_judgements(item: Fields, turn: int, annotator: str | None) -> list[Feedback]:
    """The thumb with its words, and the rating from 1 to 10 where the form asked for one."""
    score, scale = item.get_score("rating", THUMBS)
    tags = ", ".join(tag for tag in item.get_list("tags") if isinstance(tag, str))
    words = ": ".join(filter(None, (item.get_text("reason"), tags, item.get_text("comment"))))
    found = [Feedback("human", annotator, "rating", score, words or None, turn, scale=scale)]
    details, scale = item.get_object("details").get_score("rating", DETAILS)
    return found + ([Feedback("human", annotator, "details", details, turn=turn, scale=scale)] if scale else [])
