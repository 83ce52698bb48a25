"""Conversations as token ids: what was sampled stays as it was, what is said to the policy is added behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress, groupby
from typing import Any

from fdt.environments.calls import written
from fdt.text import answer_ids, control_ids, neutralise, plain, prompt_ids, skeleton
from feedback.hostile import each_text
from feedback.types import Episode, Message, Turn


REASONING = re.compile(r"(</?think>)")
"""Marks of reasoning, which templates look for in the policy's own turns."""


@dataclass(frozen=True)
class Row:
    """One training row: its ids, and which of them the policy answers for."""

    ids: list[int] = field(default_factory=list)
    target: list[bool] = field(default_factory=list)
    """Of each id, whether it is a target."""
    steps: list[int] = field(default_factory=list)
    """Of each target id, in order, the turn of the episode that it belongs to, from 0."""
    log_probs: list[float] = field(default_factory=list)
    """Of each target id, what the engine gave it when it was drawn (nats); NaN where nobody says."""
    starts: dict[int, int] = field(default_factory=dict)
    """Where each of its turns begins among the ids."""

    @classmethod
    def of(cls, context: Sequence[int], target: Sequence[int], step: int = 0) -> Row:
        """A context, and one turn that answers it."""
        row = cls()
        row.read(context)
        row.say(target, [True] * len(target), [math.nan] * len(target), step)
        return row

    def read(self, ids: Sequence[int]) -> None:
        """Appends ids that the policy reads."""
        self.ids.extend(ids)
        self.target.extend([False] * len(ids))

    def say(self, ids: Sequence[int], chosen: Sequence[bool], log_probs: Sequence[float], step: int) -> None:
        """Appends a turn of the policy; ids that it did not choose are no targets."""
        self.starts[step] = len(self.ids)
        self.ids.extend(ids)
        self.target.extend(chosen)
        self.steps.extend([step] * sum(chosen))
        self.log_probs.extend(compress(log_probs, chosen))

    def before(self, step: int) -> list[int]:
        """What was read and written before a turn."""
        return self.ids[: self.starts[step]]


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
        self.rows = [Row()]
        self.rows[0].read(opening)
        self.rewritten = 0
        self.turn = 0
        self._own = ""

    @classmethod
    def of(cls, episode: Episode, tokenizer: Any) -> Dialogue:
        """A recorded or sampled episode, up to its last assistant turn.

        Several turns of others between two of the policy's are heard together. A recorded last turn is closed by the
        end token, unless the record says that it was not ``finished``.
        """
        turns, messages = episode.turns, episode.task.messages
        finished = False not in (episode.meta.get("finished"), episode.task.meta.get("finished"))
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
        ids, chosen, log_probs = _said(turn, self.tokenizer, closed)
        self.rows[-1].say(ids, chosen, log_probs, self.turn)
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
            self.rows.append(Row())
            self.rows[-1].read(ids)
        else:
            # Where the policy was cut short, the template's end token closes its turn, and is no target.
            ended = self.ids[-1:] == [self.tokenizer.eos_token_id] == ids[:1]
            self.rows[-1].read(ids[ended:])
        self.messages.extend(new)
        self.shown = whole

    def _render(self, messages: Sequence[Message]) -> str:
        return self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)

    def _encode(self, whole: str, new: list[Message], start: int) -> list[int]:
        """Ids of a rendering from ``start`` on; the new messages may hold no control token but the template's own."""
        for message in new:
            if neutralise(message["role"], self.tokenizer) != message["role"]:
                raise ValueError(f"role: got {message['role']!r}, expected a name without control tokens")
        harmless = self._render([*self.messages, *(each_text(message, plain) for message in new)])[start:]
        found, expected = (
            (text, self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (whole[start:], harmless)
        )
        if skeleton(*found, self.tokenizer) != skeleton(*expected, self.tokenizer):
            raise ValueError(f"a message holds a control token or role mark that text forged: {found[0][:200]!r}")
        return list(found[1])


def as_message(turn: Turn) -> Message:
    """A turn as a chat message, tool calls and the call that it answers included."""
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    return message


def own_text(ids: Sequence[int], tokenizer: Any) -> str:
    """The words of ids that the policy wrote: its control tokens and reasoning marks stay, what only looks like another
    token or mark does not."""
    special, control = set(tokenizer.all_special_ids), control_ids(tokenizer)
    parts = []
    for genuine, run in groupby(ids, lambda i: i in control):
        text = tokenizer.decode([i for i in run if i not in special], skip_special_tokens=False)
        parts += [text] if genuine else [
            part if REASONING.fullmatch(part) else neutralise(part, tokenizer) for part in REASONING.split(text)
        ]
    return "".join(parts)


def _said(turn: Turn, tokenizer: Any, closed: bool) -> tuple[list[int], list[bool], list[float]]:
    """Ids of a turn, which of them the policy chose, and their log-probs.

    Without a log-prob a sampled id was forced; where no id has one, nobody says, and all were chosen.
    """
    words = "\n".join(part for part in (turn.text, written(turn.calls)) if part)
    ids = list(turn.ids) if turn.ids is not None else answer_ids(words, tokenizer, closed=closed)
    if turn.ids is None or turn.log_probs is None:
        return ids, [True] * len(ids), [math.nan] * len(ids)
    return ids, [not math.isnan(value) for value in turn.log_probs], list(turn.log_probs)


def _clean(message: Message, tokenizer: Any) -> Message:
    return each_text(message, lambda _, value: neutralise(value, tokenizer))


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
