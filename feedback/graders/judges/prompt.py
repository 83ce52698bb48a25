"""What a judge reads: an operator's template with a stranger's texts in it, each in a fence that it cannot close."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import count

from feedback.faults import DataError
from feedback.hints import load_template
from feedback.sanitize import escape_control_tokens
from feedback.types import Episode, Message, Turn

FIELD = re.compile(r"\{(\w+)\}")
SALT = "judge fence 1"
"""Nothing secret: what keeps a text from naming its own tag is that it would have to hold its own hash."""


NOTHING = "(an empty answer)"


def make_fence_tag(texts: Iterable[str]) -> str:
    """A tag that stands in none of the texts. Equal texts give the same one, so that equal prompts stay equal.

    It is a hash over all of them; a text that held it would change it.
    """
    whole = SALT + "\x00".join(texts)
    for attempt in count():
        tag = hashlib.sha256(f"{attempt}{whole}".encode(errors="replace")).hexdigest()[:12]
        if tag not in whole:
            return tag
    raise AssertionError("unreachable")


def build_judge_prompt(
    template: str, texts: Mapping[str, str], words: Mapping[str, str], listed: Mapping[str, Iterable[str]] | None = None
) -> tuple[Message, ...]:
    """The messages for a judge.

    Args:
        template: name of a file in `feedback/prompts`, or a path. Paragraphs with a {name} that is empty are left out.
        texts: what strangers wrote, by name; control tokens in it are broken, and it stands in a fence.
        words: what the operator wrote (a rubric, a scale), by name; it stands as it is.
        listed: names that stand for several texts, one below the other.

    Raises `DataError` where there is no such template, or it asks for a name that is none of these.
    """
    source = load_template(template)
    for name, members in (listed or {}).items():
        source = source.replace(f"{{{name}}}", "\n".join(f"{{{member}}}" for member in members))
    clean = {name: escape_control_tokens(text) for name, text in texts.items() if text}
    tag = make_fence_tag(clean.values())
    values = {name: f"<{name}-{tag}>\n{text}\n</{name}-{tag}>" for name, text in clean.items()}
    values |= {name: word for name, word in words.items() if word}
    known = {*texts, *words}
    kept = []
    for paragraph in source.split("\n\n"):
        asked = FIELD.findall(paragraph)
        if unknown := [name for name in asked if name not in known]:
            raise DataError(template, None, "template", f"{{{unknown[0]}}}", "one of " + ", ".join(sorted(known)))
        if all(name in values for name in asked):
            kept.append(FIELD.sub(lambda match: values[match[1]], paragraph))
    return ({"role": "user", "content": "\n\n".join(kept)},)


def format_question(episode: Episode) -> str:
    """The prompt as the judge reads it: one message as it is, several with the names of their roles."""
    messages = episode.task.messages
    if len(messages) == 1:
        return str(messages[0]["content"] or "")
    return "\n\n".join(f"{message['role']}: {message['content'] or ''}" for message in messages)


def format_answer(turns: Iterable[Turn]) -> str:
    """What was answered: one turn as it is, several with the names of their roles and with the tools they called."""
    turns = tuple(turns)
    if all(not turn.text.strip() and not turn.calls for turn in turns):
        return NOTHING
    if len(turns) == 1 and not turns[0].calls:
        return turns[0].text
    return "\n\n".join(
        f"{turn.role}: {turn.text}"
        + "".join(f"\ncalls {call.get('name')}({call.get('arguments')})" for call in turn.calls)
        for turn in turns
    )
