"""Which strings carry meaning to a model, and how they are broken in text that strangers wrote.

An added token is no control token for being added: Gemma adds runs of whitespace and HTML tags, others emoji and words.
Only special tokens, tokens that the chat template writes, and tokens in the shape of a control token are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateSyntaxError

from fdt.errors import UserError
from feedback.sanitize import BREAK, replace_surrogates

# What a chat template may write around a turn: <tag>, [TAG], "### Title:", "USER:". Read in the template's source.
MARK = re.compile(
    r"<[^<>\s'\"{}%]{1,40}>|\[/?[A-Z][A-Z_]+\]|(?<!#)#{2,}+ ?[A-Za-z]+:"
    r"|\b(?i:user|human|assistant|bot|system|instruction|response):"
)
BARS = re.compile(r"<[|｜].*|.*[|｜]>", re.DOTALL)
"""A control token by its shape: FIM marks and the like, which no markup language has."""
BRACKETS = re.compile(r"[<\[|｜].*[A-Za-z].*[>\]|｜]", re.DOTALL)
"""What a template may write as a mark; whitespace, punctuation and plain words that it writes as well are text."""
OWN = re.compile(
    r"[<\[].*(?:think|thought|reasoning|tool_?calls?|function_?calls?|tool_sep|python_tag|arg_key|arg_value|call_id"
    r"|\[args\]).*[>\]]",
    re.DOTALL,
)
"""Marks of reasoning and of calls, in lower case and with plain underscores: the policy's to write."""


def sort_by_length(strings: Iterable[str]) -> tuple[str, ...]:
    """Longest first, equal lengths by name: a set's own order changes with every process."""
    return tuple(sorted(strings, key=lambda s: (-len(s), s)))


def is_own_mark(text: str) -> bool:
    """Whether a policy writes this mark in its own turns (``<think>``, ``<tool_call>``, ``[TOOL_CALLS]`` …)."""
    return OWN.fullmatch(text.lower().replace("▁", "_")) is not None


@dataclass(frozen=True)
class ControlTokens:
    """What carries meaning to one tokenizer and its chat template; strings are sorted, longest first."""

    strings: tuple[str, ...]
    """What the tokenizer turns into one token with a meaning: special tokens, what the template writes as a mark, and
    what has the shape of one. Other added tokens (whitespace, HTML tags, emoji) are text."""
    markers: tuple[str, ...]
    """Role markers: what the template writes around turns as plain text (``[/INST]`` of Llama 2 …). No token id gives
    them away, so their occurrences in the rendered prompt are counted instead."""
    own: frozenset[str]
    """Those of both that a policy writes in its own turns."""
    ids: frozenset[int]
    """Ids of the strings."""
    own_tokens: Mapping[str, int]
    """Ids of those strings that a policy writes in its own turns, by string."""
    pattern: re.Pattern[str]
    """Finds any of them."""


def find_control_tokens(tokenizer: Any) -> ControlTokens:
    """The control tokens of a tokenizer as it is now, with its present template."""
    return _find_control_tokens(tokenizer, get_template_source(tokenizer))


@lru_cache(maxsize=8)
def _find_control_tokens(tokenizer: Any, source: str) -> ControlTokens:
    vocabulary = tokenizer.get_added_vocab()
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= set(tokenizer.all_special_tokens)
    written = extract_written_text(source)
    strings = {text for text in vocabulary if text.strip() and (text in special or is_mark(text, written))}
    markers = set(MARK.findall(written)) - strings
    _refuse_breaks(strings | markers)
    ends = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    own = frozenset(text for text in strings | markers if is_own_mark(text)) - ends
    return ControlTokens(
        strings=sort_by_length(strings),
        markers=sort_by_length(markers),
        own=own,
        ids=frozenset(vocabulary[text] for text in strings),
        own_tokens={text: vocabulary[text] for text in own & strings},
        pattern=re.compile("|".join(map(re.escape, sort_by_length(strings | markers))) or "(?!)"),
    )


def _refuse_breaks(controls: Iterable[str]) -> None:
    """Breaking a control string with the zero-width space must make it another: a stranger's tokenizer may say no."""
    if blank := next((control for control in controls if BREAK in control), None):
        raise UserError(
            "a control token holds the zero-width space that breaks control tokens",
            got=repr(blank),
            key="model.base",
            remedy="no text could be made harmless for this tokenizer; remove the token, or take another base",
        )


def is_mark(text: str, written: str) -> bool:
    """Whether an added token that is not special carries meaning, for a template that writes the words ``written``."""
    if BARS.fullmatch(text) or is_own_mark(text):
        return True
    return len(text) > 2 and BRACKETS.fullmatch(text) is not None and text in written


def get_control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of all tokens with a meaning."""
    return find_control_tokens(tokenizer).ids


def neutralise(text: str, tokenizer: Any, own: bool = False) -> str:
    """Breaks each control string and role marker in ``text`` with a zero-width space; other text stays as it is, but
    for halves of surrogate pairs, which no tokenizer takes.

    Args:
        text: what somebody wrote.
        tokenizer: whose control strings are broken.
        own: whether the policy wrote it, whose marks of reasoning and calls stay whole.
    """
    text = replace_surrogates(text)
    known = find_control_tokens(tokenizer)
    if known.pattern.search(text) is None:
        return text
    for control in (*known.strings, *known.markers):
        # A control string of one letter cannot be broken; the space takes its place.
        broken = control[0] + BREAK + control[1:] if len(control) > 1 else BREAK
        while control in text and not (own and control in known.own):
            text = text.replace(control, broken)
    return text


def get_template_source(tokenizer: Any) -> str:
    """The chat template, or all of them one after the other."""
    template = tokenizer.chat_template
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


@lru_cache(maxsize=8)
def extract_written_text(source: str) -> str:
    """The words of a template: what stands outside its tags, and its string literals; no code, no comments."""
    try:
        tokens = list(Environment().lex(source))
    except TemplateSyntaxError:
        return source
    return "\n".join(value for _, kind, value in tokens if kind in ("data", "string"))
