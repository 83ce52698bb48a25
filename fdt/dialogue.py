"""Conversations as token ids: what was sampled stays as it was, what is said to the policy is added behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from fdt.text import _each, _plain, _skeleton, answer_ids, control_ids, neutralise, prompt_ids
from feedback.types import Message, Turn


@dataclass(frozen=True)
class Row:
    """One training row: T ids, which of them the policy answers for, and to which of its turns each of those belongs."""

    ids: list[int] = field(default_factory=list)
    target: list[bool] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """Turn of the episode, from 0, of each target id, in order."""

    def add(self, ids: Sequence[int], target: Iterable[bool], step: int) -> None:
        """Appends ids; those that are a target belong to turn ``step``."""
        marks = list(target)
        self.ids.extend(ids)
        self.target.extend(marks)
        self.steps.extend([step] * sum(marks))


class Dialogue:
    """Follows one conversation.

    The policy's own ids are never made from text again: the template's rendering of what is said next is appended to
    them, from the end of the policy's turn on. Where a template rewrites what was there (it drops earlier reasoning,
    say), the next turn starts a row of its own with the template's version of the history, and ``rewritten`` counts it.
    """

    def __init__(self, messages: Sequence[Message], tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.messages = [_clean(message, tokenizer) for message in messages]
        self.shown = self._render(self.messages)
        opening = prompt_ids(messages, tokenizer)
        self.rows = [Row(opening, [False] * len(opening), [])]
        self.rewritten = 0
        self.turn = 0
        self._own = ""

    @classmethod
    def of(cls, messages: Sequence[Message], turns: Sequence[Turn], tokenizer: Any, finished: bool = True) -> Dialogue:
        """A whole recorded or sampled conversation, up to its last assistant turn.

        Args:
            messages: the prompt.
            turns: what followed; several turns of others between two of the policy's are heard together.
            finished: whether the last turn, where it was recorded as text, chose to end.
        """
        last = max((n for n, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
        parts = [(own, list(part)) for own, part in groupby(turns[: last + 1], lambda turn: turn.role == "assistant")]
        opening = [as_message(turn) for turn in parts[0][1]] if parts and not parts[0][0] else []
        made = cls([*messages, *opening], tokenizer)
        for own, part in parts[bool(opening) :]:
            if not own:
                made.hear([as_message(turn) for turn in part])
                continue
            for place, turn in enumerate(part):
                if place:
                    made.hear([])
                made.say(turn, closed=finished or turn is not turns[last])
        return made

    @property
    def ids(self) -> list[int]:
        """What the policy has read and written so far, the header of its next turn included."""
        return self.rows[-1].ids

    def say(self, turn: Turn, closed: bool = True) -> None:
        """The policy's turn: its ids where it has them, else its words, ``closed`` by the end token."""
        ids, marks = _said(turn, self.tokenizer, closed)
        self.rows[-1].add(ids, marks, self.turn)
        self._own = own_text(ids, self.tokenizer)
        self.messages.append({"role": "assistant", "content": self._own})
        self.turn += 1

    def hear(self, messages: Sequence[Message]) -> None:
        """What the policy reads before it speaks again."""
        new = [_clean(message, self.tokenizer) for message in messages]
        whole = self._render([*self.messages, *new])
        after = _after(whole, self.shown, self._own)
        ids = self._encode(whole, new, 0 if after is None else len(whole) - len(after))
        if after is None:
            self.rewritten += 1
            self.rows.append(Row(ids, [False] * len(ids), []))
        else:
            # Where the policy was cut short, the template's end token closes its turn, and is no target.
            ended = self.ids[-1:] == [self.tokenizer.eos_token_id] == ids[:1]
            self.rows[-1].add(ids[ended:], [False] * (len(ids) - ended), -1)
        self.messages.extend(new)
        self.shown = whole

    def _render(self, messages: Sequence[Message]) -> str:
        return self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)

    def _encode(self, whole: str, new: list[Message], start: int) -> list[int]:
        """Ids of a rendering from ``start`` on; the new messages may hold no control token but the template's own."""
        for message in new:
            if neutralise(message["role"], self.tokenizer) != message["role"]:
                raise ValueError(f"role: got {message['role']!r}, expected a name without control tokens")
        plain = self._render([*self.messages, *(_each(message, _plain) for message in new)])[start:]
        found, expected = (
            (text, self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (whole[start:], plain)
        )
        if _skeleton(*found, self.tokenizer) != _skeleton(*expected, self.tokenizer):
            raise ValueError(f"a message holds a control token or role mark that text forged: {found[0][:200]!r}")
        return list(found[1])


def as_message(turn: Turn) -> Message:
    """A turn as a chat message, tool calls and the call that it answers included."""
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    return message


def own_text(ids: Sequence[int], tokenizer: Any) -> str:
    """The words of ids that the policy wrote: its control tokens stay, words that only look like one do not."""
    special, control = set(tokenizer.all_special_ids), control_ids(tokenizer)
    parts = []
    for genuine, run in groupby(ids, lambda i: i in control):
        text = tokenizer.decode([i for i in run if i not in special], skip_special_tokens=False)
        parts.append(text if genuine else neutralise(text, tokenizer))
    return "".join(parts)


def _said(turn: Turn, tokenizer: Any, closed: bool) -> tuple[list[int], list[bool]]:
    """Ids of a turn, and which of them the policy chose: a log-prob that is not a number marks a forced token."""
    if turn.ids is None:
        ids = answer_ids(turn.text, tokenizer, closed=closed)
        return ids, [True] * len(ids)
    forced = [math.isnan(value) for value in turn.log_probs] if turn.log_probs is not None else [False] * len(turn.ids)
    return list(turn.ids), [not value for value in forced]


def _clean(message: Message, tokenizer: Any) -> Message:
    return _each(message, lambda _, value: neutralise(value, tokenizer))


def _after(whole: str, shown: str, own: str) -> str | None:
    """What a rendering adds behind the policy's words; None where it changed anything before that.

    Whitespace around the words may be trimmed: the policy keeps its own.
    """
    if not whole.startswith(shown):
        return None
    rest = whole[len(shown) :].lstrip()
    if not rest.startswith(own.strip()):
        return None
    rest = rest[len(own.strip()) :]
    trailing = own[len(own.rstrip()) :]
    return rest.removeprefix(trailing)
