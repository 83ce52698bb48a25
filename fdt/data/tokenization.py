"""The one place where text becomes token ids. Text of feedback, judges and answers can never write a control token."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from feedback.sanitize import BREAK, map_strings, replace_surrogates
from feedback.types import Message

# What a chat template may write around a turn: <tag>, [TAG], "### Title:", "USER:". Read in the template's source.
MARK = re.compile(
    r"<[^<>\s'\"{}%]{1,40}>|\[/?[A-Z][A-Z_]+\]|#{2,} ?[A-Za-z]+:"
    r"|\b(?i:user|human|assistant|bot|system|instruction|response):"
)


def sort_by_length(strings: Iterable[str]) -> tuple[str, ...]:
    """Longest first, equal lengths by name: a set's own order changes with every process."""
    return tuple(sorted(strings, key=lambda s: (-len(s), s)))


@lru_cache(maxsize=8)
def find_control_strings(tokenizer: Any) -> tuple[str, ...]:
    """Strings that the tokenizer turns into one added token (``<|im_end|>``, ``<think>`` …), longest first."""
    return sort_by_length(s for s in tokenizer.get_added_vocab() if s.strip())


@lru_cache(maxsize=8)
def find_role_markers(tokenizer: Any) -> tuple[str, ...]:
    """Role markers: what the chat template writes around turns as plain text (``[/INST]`` of Llama 2 …), longest first.

    No token id gives them away, so their occurrences in the rendered prompt are counted instead.
    """
    template = tokenizer.chat_template
    source = "\n".join(template.values()) if isinstance(template, dict) else template or ""
    return sort_by_length(set(MARK.findall(source)) - set(find_control_strings(tokenizer)))


@lru_cache(maxsize=8)
def get_control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of all added tokens."""
    return frozenset(tokenizer.get_added_vocab().values())


def neutralise(text: str, tokenizer: Any) -> str:
    """Breaks each control string and role marker in ``text`` with a zero-width space; other text stays as it is, but
    for halves of surrogate pairs, which no tokenizer takes."""
    text = replace_surrogates(text)
    for control in (*find_control_strings(tokenizer), *find_role_markers(tokenizer)):
        # A control string of one letter cannot be broken; the space takes its place.
        broken = control[0] + BREAK + control[1:] if len(control) > 1 else BREAK
        while control in text:
            text = text.replace(control, broken)
    return text


def tokenize_prompt(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Ids of a prompt, up to and including the header of the assistant's turn.

    Counts rather than trusting the neutralising: a prompt holds exactly the control ids, in their order, and the role
    markers that its template writes around harmless words.

    Raises:
        ValueError: where text wrote a control token or a role marker all the same, or a role holds one.
    """
    for message in messages:
        if neutralise(message["role"], tokenizer) != message["role"]:
            raise ValueError(f"role: got {message['role']!r}, expected a name without control tokens")
    expected = extract_control_tokens(
        *_render_and_encode([map_strings(m, make_placeholder) for m in messages], tokenizer), tokenizer
    )
    for clean in (neutralise, remove_control_tokens):
        text, ids = _render_and_encode([clean_message(m, tokenizer, clean) for m in messages], tokenizer)
        if extract_control_tokens(text, ids, tokenizer) == expected:
            return ids
    raise ValueError(
        f"prompt: got a control token or role marker that text forged, expected {len(expected[0])} control "
        f"tokens, all the template's own: {text[:200]!r}"
    )


def clean_message(message: Message, tokenizer: Any, clean: Callable[[str, Any], str]) -> Message:
    """The message with ``clean(text, tokenizer)`` in place of each of its texts."""
    return map_strings(message, lambda _, value: clean(value, tokenizer))


def tokenize_answer(text: str, tokenizer: Any, with_eos: bool = True) -> list[int]:
    """Ids of a recorded answer; ``with_eos`` appends the end-of-sequence token, for answers that were not cut off.

    Raises:
        ValueError: where the answer wrote a control token all the same.
    """
    control = get_control_ids(tokenizer)
    for clean in (neutralise, remove_control_tokens):
        ids = tokenizer(clean(text, tokenizer), add_special_tokens=False)["input_ids"]
        if control.isdisjoint(ids):
            return [*ids, tokenizer.eos_token_id] if with_eos else ids
    raise ValueError(f"an answer writes control tokens: {text[:60]!r}")


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
    return [i for i in ids if i in control], [text.count(marker) for marker in find_role_markers(tokenizer)]


def make_placeholder(name: str, value: str) -> str:
    """A word without meaning in a text's place; templates may leave out what is empty, and parse a call's arguments."""
    return ("{}" if name == "arguments" else "x") if value.strip() else value


def render_messages(messages: Sequence[Message], tokenizer: Any) -> str:
    """The chat template's text for these messages, up to the header of the assistant's turn."""
    return _apply_template(json.dumps(list(messages)), json.dumps(tokenizer.chat_template), tokenizer)


def _render_and_encode(messages: Sequence[Message], tokenizer: Any) -> tuple[str, list[int]]:
    text = render_messages(messages, tokenizer)
    return text, list(_encode(text, tokenizer))


# A group shares its prompt, and harmless words stand for any: most calls repeat an earlier one, and filling a template
# costs more than a small model's forward.
@lru_cache(maxsize=1024)
def _apply_template(messages: str, template: str, tokenizer: Any) -> str:
    return tokenizer.apply_chat_template(json.loads(messages), add_generation_prompt=True, tokenize=False)


@lru_cache(maxsize=1024)
def _encode(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def remove_control_tokens(text: str, tokenizer: Any) -> str:
    """The neutralised text without what became a control id even so: some tokenizers normalise letters first."""
    text = neutralise(text, tokenizer)
    control = get_control_ids(tokenizer)
    bad = [(0, 0)] if tokenizer.is_fast else []
    while bad:
        for start, end in reversed(bad):
            text = text[:start] + text[end:]
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
        bad = [span for i, span in pairs if i in control and span[0] < span[1]]
    return text
