"""Text that strangers wrote, before it enters a prompt whose tokenizer is not here (a judge's, an API's).

Where the tokenizer is at hand, `fdt/data/tokenization.py` breaks that tokenizer's own control tokens and counts what is
left. A server applies a template that nobody here can read, so everything that looks like a control token or a role
header of a known family is broken before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

KEPT = ("role", "type")
"""Fields of a message that are names of the protocol, never words."""
BREAK = "\u200b"
"""A zero-width space: a control string with one inside is plain text to a tokenizer, and reads the same."""
NAMES = (
    "s|bos|eos|pad|unk|sep|cls|mask|think|thinking|reasoning|tool|tools|tool_call|tool_calls|tool_response|"
    "tool_results|function|im_start|im_end|extra_\\d+|unused\\d+|system|user|assistant|human|model"
)
SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of a pair of code units: JSON can spell one alone, no encoder can write it."""
SHAPES = re.compile(
    r"<[|｜][^<>|｜\n]{1,60}[|｜]>"  # ChatML, Llama 3, Phi, gpt-oss, GLM; DeepSeek's wide bars
    r"|<\|\w{1,40}>|<\w{1,40}\|>"  # Gemma 4
    r"|\[\|[^\[\]|\n]{1,60}\|\]"  # EXAONE
    rf"|<{{1,2}}/?(?:{NAMES}|sys)>{{1,2}}"  # sentencepiece's own, thinking and tool tags, Llama 2's system tag
    r"|<(?:start|end|begin|beginning)_of_\w{1,30}>"  # Gemma, MiniMax
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|THINK|IMG|PREFIX)\]"
    r"|\[(?:[gs]?MASK|BOS|EOS|EOT|PAD|UNK|SEP|CLS)\]"  # GLM, EXAONE, Kimi
    r"|<(?:[se]op|/?arg_key|/?arg_value|fim_\w{1,10})>|/nothink\b"  # GLM, MiniMax
    r"|</?(?:seed|minimax):\w{1,40}>|<\[\w{1,20}_never_used\]>"  # Seed and MiniMax
    r"|\]~!?b[\[\]]|\[e~\[|\]![pd]~\[|\]<\]\w{1,20}\[>\[",  # MiniMax
    re.IGNORECASE,
)


def replace_surrogates(text: str) -> str:
    """The text with a replacement character for each half of a surrogate pair that stands alone."""
    return SURROGATE.sub("\ufffd", text)


def escape_control_tokens(text: str) -> str:
    """The text with every control-like string broken after its first character, and encodable; else as it is.

    Holds for what is found after breaking, too: pieces cannot join to a new one.
    """
    text = replace_surrogates(text)
    while True:
        broken = SHAPES.sub(lambda match: match[0][0] + BREAK + match[0][1:], text)
        if broken == text:
            return text
        text = broken


def map_strings(value: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    """A message, tool calls included, with every string replaced by `change(its field, it)`; roles and types stay."""
    if isinstance(value, dict):
        return {key: map_strings(item, change, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(item, change, name) for item in value]
    return change(name, value) if isinstance(value, str) and name not in KEPT else value
