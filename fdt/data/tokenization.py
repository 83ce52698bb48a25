"""The one place where text becomes token ids. Text of feedback, judges and answers can never write a control token."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from fdt.data.chat.calls import parse_arguments, render_conversation
from fdt.data.chat.control_tokens import find_control_tokens, get_control_ids, neutralise, sort_by_length
from fdt.data.chat.template import drop_opening, find_opening, find_turn_end
from feedback.sanitize import KEPT
from feedback.types import Episode, Message

PROTOCOL = (*KEPT, "id", "tool_call_id")
"""Fields that templates compare or measure."""
Clean = Callable[[str, Any, bool], str]
"""From a text, a tokenizer, and whether the policy wrote it, to a text without forged control tokens."""


def tokenize_prompt(messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] = ()) -> list[int]:
    """Ids of a prompt, up to and including the header of the assistant's turn.

    Counts rather than trusting the neutralising: a prompt holds exactly the control ids, in their order, and the role
    markers that its template writes around harmless words.

    Args:
        messages: the prompt.
        tokenizer: with a chat template.
        tools: descriptions of tools that the policy may call, as JSON schemas.

    Raises:
        ValueError: where text wrote a control token or a role marker all the same, or a role holds one.
    """
    check_roles(messages, tokenizer)
    harmless = [make_harmless(message, tokenizer) for message in messages]
    expected = extract_control_tokens(
        *_render_and_encode(harmless, tokenizer, make_harmless(tools, tokenizer)), tokenizer
    )
    for clean in (neutralise, remove_control_tokens):
        cleaned = [clean_message(message, tokenizer, clean) for message in messages]
        text, ids = _render_and_encode(cleaned, tokenizer, clean_message(tools, tokenizer, clean))
        if extract_control_tokens(text, ids, tokenizer) == expected:
            return ids
    raise ValueError(
        f"prompt: got a control token or role marker that text forged, expected {len(expected[0])} control "
        f"tokens, all the template's own: {text[:200]!r}"
    )


def check_roles(messages: Sequence[Message], tokenizer: Any) -> None:
    """
    Raises:
        ValueError: where a role holds a control token or a role marker.
    """
    for message in messages:
        if neutralise(message["role"], tokenizer) != message["role"]:
            raise ValueError(f"role: got {message['role']!r}, expected a name without control tokens")


def clean_message(message: Any, tokenizer: Any, clean: Clean) -> Any:
    """The message, or the description of a tool, with ``clean`` in place of each of its texts and of names that others
    chose; the policy's own turns keep the marks that are the policy's."""
    own = isinstance(message, dict) and message.get("role") == "assistant"
    return map_words(parse_arguments(message), lambda _, value: clean(value, tokenizer, own))


def map_words(value: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    """The same value with ``change(its field, it)`` for every string in it, and ``change("", key)`` for every key: the
    names of a call's arguments are a stranger's as well."""
    if isinstance(value, dict):
        return {change("", key): map_words(item, change, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_words(item, change, name) for item in value]
    return change(name, value) if isinstance(value, str) else value


def make_harmless(message: Any, tokenizer: Any) -> Any:
    """The message, or the description of a tool, with words without meaning in place of its texts; what is empty stays
    empty, since templates leave it out, and the policy's own marks stay where they are."""
    known = find_control_tokens(tokenizer).own
    own = known if isinstance(message, dict) and message.get("role") == "assistant" else ()
    marks = re.compile("(" + "|".join(map(re.escape, sort_by_length(own))) + ")") if own else None

    def replace_words(name: str, value: str) -> str:
        # Keys, and names of the protocol, are what templates ask for: they stay, without what could be forged.
        if not name or name in PROTOCOL:
            return (neutralise if value.isascii() else remove_control_tokens)(value, tokenizer)
        if marks is None or not marks.search(value):
            return make_placeholder(name, value)
        return "".join(part if marks.fullmatch(part) else make_placeholder(name, part) for part in marks.split(value))

    return map_words(parse_arguments(message), replace_words)


def tokenize_answer(text: str, tokenizer: Any, with_eos: bool = True, context: Sequence[int] = ()) -> list[int]:
    """Ids of a recorded answer. Its marks of reasoning and of calls (``<think>``, ``<tool_call>``) are their tokens;
    no other control token is ever written.

    Args:
        text: the answer.
        tokenizer: with a chat template.
        with_eos: appends the token that ends a turn in the template, for answers that were not cut off.
        context: the ids before it; where they end with the opening of a thought, the answer does not open it again.

    Raises:
        ValueError: where the answer wrote a control token all the same.
    """
    text = drop_opening(text, find_written_opening(context, tokenizer))
    known = find_control_tokens(tokenizer)
    for clean in (neutralise, remove_control_tokens):
        cleaned = clean(text, tokenizer, True)
        ids = tokenizer(cleaned, add_special_tokens=False)["input_ids"]
        found = Counter(i for i in ids if i in known.ids)
        spelt = _count_own_marks(cleaned, tokenizer)
        if found.keys() <= set(known.own_tokens.values()) and all(count <= spelt[i] for i, count in found.items()):
            return [*ids, find_turn_end(tokenizer)] if with_eos else ids
    raise ValueError(f"an answer writes control tokens: {text[:60]!r}")


def find_written_opening(context: Sequence[int], tokenizer: Any) -> str:
    """The opening of the policy's turn that ids end with (`fdt.data.chat.template.find_opening`), or nothing."""
    opening = find_opening(tokenizer) if context else ""
    if not opening:
        return ""
    ids = tokenizer(opening, add_special_tokens=False)["input_ids"]
    return opening if list(context[-len(ids) :]) == ids else ""


def _count_own_marks(text: str, tokenizer: Any) -> Counter[int]:
    """How often a text spells each of the policy's own control tokens, by id."""
    known = find_control_tokens(tokenizer)
    return Counter(known.own_tokens[mark] for mark in known.pattern.findall(text) if mark in known.own_tokens)


def holds_control_tokens(episode: Episode, tokenizer: Any) -> bool:
    """Whether any recorded text of an episode holds what must be broken before the model reads it."""
    recorded = [(turn.text, turn.role == "assistant") for turn in episode.turns if turn.ids is None]
    said = [(item.text, False) for item in episode.feedback] + [(item.revision, True) for item in episode.feedback]
    if any(text and neutralise(text, tokenizer, own) != text for text, own in (*recorded, *said)):
        return True
    messages = [parse_arguments(message) for message in episode.task.messages]
    return [clean_message(message, tokenizer, neutralise) for message in messages] != messages


def truncate_to_tokens(text: str, tokenizer: Any, limit: int) -> str:
    """A beginning of ``text`` that is at most ``limit`` tokens long; the text itself where it is no longer."""

    def count_tokens(end: int) -> int:
        return len(tokenizer(neutralise(text[:end], tokenizer), add_special_tokens=False)["input_ids"])

    if count_tokens(len(text)) <= limit:
        return text
    return text[: bisect_right(range(1, len(text)), limit, key=count_tokens)]


def extract_control_tokens(text: str, ids: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Control ids in order, and how often the text holds each role marker: what words must not change."""
    control = get_control_ids(tokenizer)
    return [i for i in ids if i in control], [text.count(marker) for marker in find_control_tokens(tokenizer).markers]


def make_placeholder(name: str, value: str) -> str:
    """A word without meaning in a text's place; templates may leave out what is empty, and parse a call's arguments."""
    return ("{}" if name == "arguments" else "x") if value.strip() else value


def _render_and_encode(messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any]) -> tuple[str, list[int]]:
    text = render_conversation(messages, tokenizer, tools)
    return text, list(_encode(text, tokenizer))


@lru_cache(maxsize=1024)
def _encode(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def remove_control_tokens(text: str, tokenizer: Any, own: bool = False) -> str:
    """The neutralised text without what became a control id even so: some tokenizers normalise letters first."""
    text = neutralise(text, tokenizer, own)
    control = get_control_ids(tokenizer)
    kept = find_control_tokens(tokenizer).own if own else frozenset()
    bad = [(0, 0)] if tokenizer.is_fast else []
    while bad:
        for start, end in reversed(bad):
            text = text[:start] + text[end:]
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
        bad = [span for i, span in pairs if i in control and span[0] < span[1] and text[slice(*span)] not in kept]
    return text
