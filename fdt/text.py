"""The one place where text becomes token ids. Text from feedback, judges and answers can never write a control token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from feedback.types import Message

BREAK = "\u200b"


@lru_cache(maxsize=8)
def control_strings(tokenizer: Any) -> tuple[str, ...]:
    """Strings that the tokenizer turns into one added token (``<|im_end|>``, ``<think>`` …), longest first."""
    return tuple(sorted((s for s in tokenizer.get_added_vocab() if s.strip()), key=len, reverse=True))


def neutralise(text: str, tokenizer: Any) -> str:
    """Breaks every control string in ``text`` with a zero-width space; other text is returned as it is."""
    for control in control_strings(tokenizer):
        # A control string of one letter cannot be broken; the space takes its place.
        broken = control[0] + BREAK + control[1:] if len(control) > 1 else BREAK
        while control in text:
            text = text.replace(control, broken)
    return text


def prompt_ids(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Ids of a prompt, up to and including the header of the assistant's turn.

    Counts control ids rather than trusting the neutralising: a prompt holds exactly those of its template.

    Raises:
        ValueError: where text wrote a control token all the same, or a role holds one.
    """
    for message in messages:
        if neutralise(message["role"], tokenizer) != message["role"]:
            raise ValueError(f"role: got {message['role']!r}, expected a name without control tokens")
    clean = [{"role": m["role"], "content": neutralise(m["content"], tokenizer)} for m in messages]
    ids = list(_template(clean, tokenizer))
    empty = _template([{"role": m["role"], "content": "x"} for m in messages], tokenizer)
    control = control_ids(tokenizer)
    if (got := sum(i in control for i in ids)) != (expected := sum(i in control for i in empty)):
        raise ValueError(f"a prompt holds {got} control tokens, its template writes {expected}: text forged a token")
    return ids


def answer_ids(text: str, tokenizer: Any, closed: bool = True) -> list[int]:
    """Ids of a recorded answer, ``closed`` by the end-of-sequence token unless it was cut off."""
    ids = tokenizer(neutralise(text, tokenizer), add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if closed else ids


@lru_cache(maxsize=8)
def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of all added tokens."""
    return frozenset(tokenizer.get_added_vocab().values())


def _template(messages: list[dict[str, str]], tokenizer: Any) -> list[int]:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
