"""What a judge wrote, read by schema. What does not fit has a reason instead of a value; nothing is guessed."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from feedback.gateway import Failure, Reply

FENCED = re.compile(r"^```(?:json)?[ \t]*\n(.*?)\n```[ \t]*$", re.MULTILINE | re.DOTALL)
REASONING_ENDS = ("</think>", "</reasoning>", "</thinking>")
SHOWN_ERRORS = 3

Form = TypeVar("Form", bound=BaseModel)


class UnreadableReply(ValueError):
    """Why a reply has no value: a few words, the same for all replies of a kind, so that they can be counted."""


def _reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a truth value is no score")
    return value


Score = Annotated[float, BeforeValidator(_reject_bool), Field(allow_inf_nan=False)]


class PointwiseReply(BaseModel):
    """One answer judged by itself: thoughts first, the score last."""

    analysis: str = ""
    critique: str
    score: Score


class Principle(BaseModel):
    """One thing that makes an answer good here."""

    name: str
    weight: Score


class PrincipleReply(BaseModel):
    """Several answers judged by principles made for the question (arXiv 2504.02495, section 3)."""

    principles: list[Principle] = Field(min_length=1)
    critiques: list[str]
    scores: list[Score]


class NextStateReply(BaseModel):
    """What came after a turn, and what that reveals about the turn."""

    analysis: str = ""
    progress: Literal[-1, 0, 1]
    useful: bool
    hint: str = ""


class RevisionReply(BaseModel):
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


def strip_reasoning(reply: Reply | Failure) -> str:
    """The reply's text after any reasoning. Raises `UnreadableReply` where there is none."""
    if isinstance(reply, Failure):
        raise UnreadableReply(f"no reply: {reply.kind}")
    text = reply.text
    for end in REASONING_ENDS:
        text = text.rpartition(end)[2]
    if not text.strip():
        raise UnreadableReply(name_reason(reply, "empty"))
    return text.strip()


def read_form(reply: Reply | Failure, form: type[Form]) -> Form:
    """The reply as a filled-in form: the whole text where it is one JSON object, else the last fenced one.

    Text that the judge quotes inside a value cannot pass for its own: its quotation marks are escaped there, so that it
    is no JSON by itself. Raises `UnreadableReply`.
    """
    text = strip_reasoning(reply)
    blocks = [text] if text.startswith("{") else FENCED.findall(text)
    if not blocks:
        raise UnreadableReply(name_reason(reply, "no JSON"))
    try:
        found = json.loads(blocks[-1], object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError):
        raise UnreadableReply(name_reason(reply, "bad JSON")) from None
    try:
        return form.model_validate(found)
    except ValidationError as error:
        fields = dict.fromkeys(str(item["loc"][0]) if item["loc"] else "object" for item in error.errors())
        raise UnreadableReply("wrong fields: " + ", ".join(list(fields)[:SHOWN_ERRORS])) from None


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are distinct: with two scores, neither is the score."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
