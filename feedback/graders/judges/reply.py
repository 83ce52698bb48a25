"""What a judge wrote, read by schema. What does not fit has a reason instead of a value; nothing is guessed."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from feedback.gateway import Failure, Reply
from feedback.sanitize import map_strings, replace_surrogates

FENCE = re.compile(r"^```(\S*)[ \t]*$", re.MULTILINE)
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""A number as JSON writes it."""
REASONING_END = re.compile("</(?:think|reasoning|thinking|seed:think)>")
SPACE = re.compile(r"\s*")
SHOWN_ERRORS = 3
MOST_ENDS = 64
"""Marks of the end of reasoning after which a form is looked for."""

Filled = TypeVar("Filled", bound=BaseModel)


class UnreadableReply(ValueError):
    """Why a reply has no value: a few words, the same for all replies of a kind, so that they can be counted."""


def _read_number(value: Any) -> Any:
    """A number in quotation marks is what it says where it is written as JSON writes numbers; `1_0`, `８` and a truth
    value are none."""
    if isinstance(value, bool):
        raise ValueError("a truth value is no score")
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


Score = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]


class Form(BaseModel):
    """What a judge fills in; nothing is converted."""

    model_config = ConfigDict(strict=True)


class PointwiseReply(Form):
    """One answer judged by itself: thoughts first, the score last."""

    analysis: str = ""
    critique: str
    score: Score


class Principle(Form):
    """One thing that makes an answer good here."""

    name: str
    weight: Score


class PrincipleReply(Form):
    """Several answers judged by principles made for the question (arXiv 2504.02495, section 3)."""

    principles: list[Principle] = Field(min_length=1)
    critiques: list[str]
    scores: list[Score]


class NextStateReply(Form):
    """What came after a turn, and what that reveals about the turn."""

    analysis: str = ""
    progress: Annotated[Literal[-1, 0, 1], BeforeValidator(_read_number)]
    useful: bool
    hint: str = ""


class RevisionReply(Form):
    """A corrected answer."""

    revision: str = Field(min_length=1)


def build_schema(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema to ask a server for: every field named, no other allowed, as strict servers demand."""
    return _make_strict(form.model_json_schema())


def _make_strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_make_strict(child) for child in node]
    if not isinstance(node, dict):
        return node
    node = {name: _make_strict(child) for name, child in node.items() if name not in ("title", "default")}
    if node.get("type") == "object":
        node |= {"additionalProperties": False, "required": list(node["properties"])}
    return node


def name_reason(reply: Reply | Failure, fault: str) -> str:
    """Why a reply is unreadable: it was cut off, or else the fault."""
    return "cut off" if isinstance(reply, Reply) and reply.finish == "length" else fault


def get_text(reply: Reply | Failure) -> str:
    """What was replied. Raises `UnreadableReply` where nothing was."""
    if isinstance(reply, Failure):
        raise UnreadableReply(f"no reply: {reply.kind}")
    return reply.text.strip()


def strip_reasoning(reply: Reply | Failure) -> str:
    """The reply's text after any reasoning. Raises `UnreadableReply` where there is none."""
    text = get_text(reply)
    ends = [match.end() for match in REASONING_END.finditer(text)]
    rest = text[ends[-1] :].strip() if ends else text
    if not rest:
        raise UnreadableReply(name_reason(reply, "empty"))
    return rest


def read_form(reply: Reply | Failure, form: type[Filled]) -> Filled:
    """The reply as a filled-in form: one JSON object, after any reasoning, else the last fenced one.

    Text that the judge quotes inside a value cannot pass for its own: its quotation marks are escaped there, so that it
    is no JSON by itself; nor does a mark of reasoning that stands inside a value end anything. Raises
    `UnreadableReply`.
    """
    try:
        found = find_object(get_text(reply))
        if found is None:
            strip_reasoning(reply)
            raise UnreadableReply(name_reason(reply, "no JSON"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableReply):
            raise
        raise UnreadableReply(name_reason(reply, "bad JSON")) from None
    try:
        return form.model_validate(map_strings(found, lambda _, text: replace_surrogates(text)))
    except ValidationError as error:
        fields = dict.fromkeys(str(item["loc"][0]) if item["loc"] else "object" for item in error.errors())
        raise UnreadableReply("wrong fields: " + ", ".join(list(fields)[:SHOWN_ERRORS])) from None


def find_object(text: str) -> Any:
    """The JSON that a reply consists of, whole or after a mark that ends reasoning, or that it fences last; None where
    nothing looks so. Raises ValueError or RecursionError where what looks so is none."""
    ends = [match.end() for match in REASONING_END.finditer(text)]
    fault: ValueError | RecursionError | None = None
    for end in (0, *ends[:MOST_ENDS], *ends[-1:]):
        start = match.end() if (match := SPACE.match(text, end)) else end
        if not text.startswith("{", start):
            continue
        try:
            found, stop = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            fault = error
            continue
        if not text[stop:].strip():
            return found
        fault = ValueError("more than one object")
    if fault is not None:
        raise fault
    block = find_fenced(text, ends[-1] if ends else 0)
    return None if block is None else DECODER.decode(block)


def find_fenced(text: str, end: int) -> str | None:
    """What the last fence named json, or named nothing, holds; None where reasoning that stops at `end` follows it."""
    opened: re.Match[str] | None = None
    block: str | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence[1]:
            if opened[1] in ("", "json"):
                block = text[opened.end() + 1 : fence.start() - 1] if fence.end() > end else None
            opened = None
    return block


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are distinct: with two scores, neither is the score."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicates)
