"""A chat template and its settings: rendering, the token that ends a turn, and what opens the policy's turn for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from fdt.data.chat.control_tokens import find_control_tokens, get_control_ids
from feedback.types import Message

WORD = "x7q"
"""Stands for words of a turn; no template writes it."""
PROBE: tuple[Message, ...] = ({"role": "user", "content": WORD},)
REFUSALS = (TemplateError, TypeError, KeyError, AttributeError, ValueError)
"""What templates raise on messages that they were not written for."""


def set_template_variables(tokenizer: Any, variables: Mapping[str, Any]) -> None:
    """Variables that the chat template reads from now on, such as ``enable_thinking``."""
    tokenizer.template_variables = dict(variables)


def get_template_variables(tokenizer: Any) -> dict[str, Any]:
    """The chat template's variables; none where nobody set any."""
    return getattr(tokenizer, "template_variables", {})


def render_messages(
    messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] = (), add_generation_prompt: bool = True
) -> str:
    """The chat template's text for these messages, up to the header of the assistant's turn.

    Args:
        messages: as the template is to read them.
        tokenizer: holds the template and its variables.
        tools: descriptions of the tools that the policy may call, as JSON schemas.
        add_generation_prompt: whether that header follows.
    """
    request = {"messages": list(messages), "tools": list(tools), "header": add_generation_prompt}
    variables = json.dumps(get_template_variables(tokenizer), default=str)
    return _apply_template(json.dumps(request), json.dumps(tokenizer.chat_template), variables, tokenizer)


# A group shares its prompt, and harmless words stand for any: most calls repeat an earlier one, and filling a template
# costs more than a small model's forward.
@lru_cache(maxsize=1024)
def _apply_template(request: str, template: str, variables: str, tokenizer: Any) -> str:
    given = json.loads(request)
    return tokenizer.apply_chat_template(
        given["messages"],
        tools=given["tools"] or None,
        add_generation_prompt=given["header"],
        tokenize=False,
        **get_template_variables(tokenizer),
    )


def find_turn_end(tokenizer: Any) -> int:
    """The id that the template writes after an assistant's turn, whatever the tokenizer calls its end of sequence; that
    one where the template ends a turn with plain text."""
    try:
        text = render_messages(
            [*PROBE, {"role": "assistant", "content": WORD}], tokenizer, add_generation_prompt=False
        ).rpartition(WORD)[2]
    except REFUSALS:
        return tokenizer.eos_token_id
    return _find_first_control(text, tokenizer)


@lru_cache(maxsize=32)
def _find_first_control(text: str, tokenizer: Any) -> int:
    control = get_control_ids(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in control), tokenizer.eos_token_id)


def set_further_stops(tokenizer: Any, ids: int | Sequence[int] | None) -> None:
    """Ids of a generation config that end a turn too, from now on; those that are control tokens, since a config made
    for another tokenizer names letters."""
    control = get_control_ids(tokenizer)
    given = [ids] if isinstance(ids, int) else ids or []
    tokenizer.further_stops = [i for i in given if i in control]


def find_stop_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a turn: the template's own first, the tokenizer's, and those that were set besides."""
    further = getattr(tokenizer, "further_stops", ())
    return tuple(dict.fromkeys((find_turn_end(tokenizer), tokenizer.eos_token_id, *further)))


def find_opening(tokenizer: Any) -> str:
    """What the template writes of the policy's own turn behind its header: ``<think>\\n`` of templates that begin a
    thought, an empty thought where thinking is off; mostly nothing."""
    try:
        begun = render_messages(PROBE, tokenizer)
        plain = render_messages(PROBE, tokenizer, add_generation_prompt=False)
    except REFUSALS:
        return ""
    header = begun.removeprefix(plain)
    places = [header.find(mark) for mark in find_control_tokens(tokenizer).own if mark in header]
    return header[min(places) :] if places else ""


def drop_opening(text: str, opening: str) -> str:
    """A turn's words without the opening that the template wrote already."""
    begun = text.lstrip()
    if not opening or not begun.startswith(opening.strip()):
        return text
    rest = begun[len(opening.strip()) :]
    for letter in opening[len(opening.rstrip()) :]:
        rest = rest.removeprefix(letter)
    return rest
