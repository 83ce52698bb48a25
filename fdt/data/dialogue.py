"""Conversations as token ids: what was sampled stays as it was, what others write is appended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jinja2 import TemplateError

from fdt.data.chat.calls import format_native_calls, get_tools, render_conversation, wrap_call
from fdt.data.chat.control_tokens import find_control_tokens, neutralise
from fdt.data.chat.template import find_stop_ids
from fdt.data.rows import Row
from fdt.data.tokenization import (
    check_roles,
    clean_message,
    extract_control_tokens,
    find_written_opening,
    make_harmless,
    remove_control_tokens,
    tokenize_answer,
    tokenize_prompt,
)
from fdt.errors import UserError
from feedback.types import Episode, Message, Turn


class Dialogue:
    """Follows one conversation.

    The policy's own ids are never made from text again: the template's rendering of the next messages is appended to
    them, from the end of the policy's turn on. Where a template rewrites the history (one that drops earlier
    reasoning, for instance), the next turn starts a row of its own with the template's version of the history, and
    ``history_rewrites`` counts it.
    """

    def __init__(self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] = ()) -> None:
        self.tokenizer = tokenizer
        self.tools = clean_message(tools, tokenizer, neutralise)
        self.messages = [clean_message(message, tokenizer, neutralise) for message in messages]
        self.rendered = self._render(self.messages)
        opening = tokenize_prompt(messages, tokenizer, tools)
        self.rows = [Row()]
        self.rows[0].append_context(opening)
        self.history_rewrites = 0
        """How often the template rewrote the history."""
        self.turn_count = 0
        """Turns of the policy so far."""
        self._own = ""

    @classmethod
    def from_episode(cls, episode: Episode, tokenizer: Any) -> Dialogue:
        """A recorded or sampled episode, up to its last assistant turn.

        Several turns of others between two of the policy's are appended together. A recorded last turn ends with the
        end token, unless the record has it as cut off.
        """
        turns = episode.turns
        messages = episode.task.messages
        finished = not episode.is_cut_off
        last = max((n for n, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
        parts = [(own, list(part)) for own, part in groupby(turns[: last + 1], lambda turn: turn.role == "assistant")]
        opening = [as_message(turn) for turn in parts[0][1]] if parts and not parts[0][0] else []
        made = cls([*messages, *opening], tokenizer, get_tools(episode.task))
        for own, part in parts[bool(opening) :]:
            if not own:
                made.append_messages([as_message(turn) for turn in part])
                continue
            for number, turn in enumerate(part):
                if number:
                    made.append_messages([])
                made.append_turn(turn, with_eos=finished or turn is not turns[last])
        return made

    @property
    def ids(self) -> list[int]:
        """What the policy has read and written so far, the header of its next turn included."""
        return self.rows[-1].ids

    def append_turn(self, turn: Turn, with_eos: bool = True) -> None:
        """The policy's turn: its ids where it has them, else its words, and the end token where ``with_eos``."""
        # What the template opened for the policy is part of what it wrote, and so of the history.
        opening = find_written_opening(self.ids, self.tokenizer)
        ids, sampled, log_probs = _tokenize_turn(turn, self.tokenizer, with_eos, self.ids)
        self.rows[-1].append_turn(ids, sampled, log_probs, self.turn_count)
        self.rendered = self.rendered.removesuffix(opening)
        self._own = opening + decode_policy_text(ids, self.tokenizer)
        self.messages.append({"role": "assistant", "content": self._own})
        self.turn_count += 1

    def append_messages(self, messages: Sequence[Message]) -> None:
        """Messages that the policy reads before its next turn.

        Raises:
            ValueError: where a message forged a control token or a role marker all the same.
        """
        check_roles(messages, self.tokenizer)
        harmless = self._render_new([make_harmless(message, self.tokenizer) for message in messages])
        for clean in (neutralise, remove_control_tokens):
            new = [clean_message(message, self.tokenizer, clean) for message in messages]
            found = self._render_new(new)
            if found.control == harmless.control:
                break
        else:
            raise ValueError(
                f"a message holds a control token or role marker that text forged: {found.new_text[:200]!r}"
            )
        if found.rewrites_history:
            self.history_rewrites += 1
            self.rows.append(Row())
        # Where the policy was cut short, the template's end token closes its turn, and is no target. A turn may have
        # ended with another token than the template's own.
        stops = {*find_stop_ids(self.tokenizer)}
        ended = not found.rewrites_history and stops.issuperset(self.ids[-1:]) and stops.issuperset(found.new_ids[:1])
        self.rows[-1].append_context(found.new_ids[ended:])
        self.messages.extend(new)
        self.rendered = found.text

    def _render_new(self, new: list[Message]) -> _RenderedMessages:
        whole = self._render([*self.messages, *new])
        after = _find_suffix(whole, self.rendered, self._own)
        text = whole if after is None else after
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return _RenderedMessages(whole, text, ids, extract_control_tokens(text, ids, self.tokenizer), after is None)

    def _render(self, messages: Sequence[Message]) -> str:
        try:
            return render_conversation(messages, self.tokenizer, self.tools)
        except TemplateError as fault:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the model's chat template refuses a conversation: {fault}",
                got=roles,
                expected="roles that it knows, in its order",
                key="data.environment",
            ) from fault


@dataclass(frozen=True)
class _RenderedMessages:
    """A rendering of the whole conversation, and the text that is new in it, with its ids and its control tokens; where
    the template rewrites the history, all of it is new."""

    text: str
    new_text: str
    new_ids: list[int]
    control: tuple[list[int], list[int]]
    rewrites_history: bool


def as_message(turn: Turn) -> Message:
    """A turn as a chat message, tool calls and the call that it answers included."""
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.calls:
        message["tool_calls"] = [
            wrap_call(call.get("id"), {name: call[name] for name in ("name", "arguments")}) for call in turn.calls
        ]
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    return message


def decode_policy_text(ids: Sequence[int], tokenizer: Any) -> str:
    """The words of ids that the policy wrote: its control tokens and its marks of reasoning and of calls stay, what
    only looks like another control token does not."""
    known = find_control_tokens(tokenizer)
    dropped = set(tokenizer.all_special_ids) - set(known.own_tokens.values())
    parts = []
    for genuine, run in groupby(ids, lambda i: i in known.ids):
        text = tokenizer.decode([i for i in run if i not in dropped], skip_special_tokens=False)
        parts.append(text if genuine else neutralise(text, tokenizer, own=True))
    return "".join(parts)


def _tokenize_turn(
    turn: Turn, tokenizer: Any, with_eos: bool, context: Sequence[int]
) -> tuple[list[int], list[bool], list[float]]:
    """Ids of a turn, which of them the policy sampled, and their log-probs.

    An id of a sampled turn without a log-prob was forced; where no id has one, all count as sampled.
    """
    words = "\n".join(part for part in (turn.text, format_native_calls(turn.calls, tokenizer)) if part)
    ids = list(turn.ids) if turn.ids is not None else tokenize_answer(words, tokenizer, with_eos, context)
    if turn.ids is None or turn.log_probs is None:
        return ids, [True] * len(ids), [math.nan] * len(ids)
    return ids, [not math.isnan(value) for value in turn.log_probs], list(turn.log_probs)


def _find_suffix(whole: str, rendered: str, own: str) -> str | None:
    """What a rendering adds behind the policy's words; None where it changed anything before that.

    Whitespace around the words may be trimmed: the policy keeps its own.
    """
    if not whole.startswith(rendered):
        return None
    rest = whole[len(rendered) :].lstrip()
    if not rest.startswith(own.strip()):
        return None
    rest = rest[len(own.strip()) :]
    trailing = own[len(own.rstrip()) :]
    return rest.removeprefix(trailing)
