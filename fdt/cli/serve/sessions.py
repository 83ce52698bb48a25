"""From requests to sessions: which turn a request goes on from, and what of it is feedback on that turn.

A request holds a whole conversation. Where it begins with what an earlier turn of the session read, followed by that
turn's answer and by something more, the more is what came back for the answer: the user's next message, or all replies
of the tools that it called. A request that repeats an earlier one is a retry and says nothing about anything
(OpenClaw-RL, arXiv 2603.10165, takes a retry for feedback and the last of several tool replies for all of them).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from feedback.logs import Judgement, build_feedback_event
from feedback.logs.judgements import Event
from feedback.readers.chat import check_prompt, read_messages
from feedback.readers.fields import Fields
from feedback.readers.record import Record
from feedback.readers.scales import ScoreRange
from feedback.types import Episode, Feedback, Message, Turn

MAIN = "main"
SIDE = "side"
NAME = "next_state"
"""Name of the feedback that the next message is."""


@dataclass
class ServedTurn:
    """One answer that was given."""

    episode: Episode
    is_judged: bool = False
    """Whether the log holds what came back for it."""

    @property
    def history(self) -> list[Message]:
        """What the next request repeats: what the turn read, and its answer."""
        answer = self.episode.turns[0]
        calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call in answer.calls]
        own: Message = {"role": "assistant", "content": answer.text, **({"tool_calls": calls} if calls else {})}
        return [*self.episode.task.messages, own]


@dataclass
class Session:
    """The main turns of one conversation."""

    turns: list[ServedTurn] = field(default_factory=list)
    count: int = 0
    """Turns so far, side ones too."""


class Sessions:
    """All conversations that may still go on."""

    def __init__(self) -> None:
        self.by_name: dict[str, Session] = {}
        self._names: dict[str, str] = {}  # of a history, the session that it is of

    def find_name(self, messages: Sequence[Message]) -> str:
        """The session that a conversation without a name goes on from, or a new name."""
        answered = [end for end in range(len(messages) - 1, 0, -1) if messages[end - 1]["role"] == "assistant"]
        known = (self._names.get(_hash(messages[:end])) for end in answered)
        if name := next(filter(None, known), None):
            return name
        return self._names.get(_hash(messages)) or f"session-{secrets.token_hex(6)}"

    def find_previous(self, name: str, messages: Sequence[Message]) -> tuple[ServedTurn, tuple[Message, ...]] | None:
        """The turn of a session that a request answers, and with what; None for a retry, a first turn, or a history
        that was rewritten."""
        for turn in reversed(self.by_name.get(name, Session()).turns):
            history = turn.history
            rest = tuple(messages[len(history) :])
            if rest and not turn.is_judged and _is_same(history, messages[: len(history)]):
                following = tuple(takewhile(lambda message: message["role"] != "assistant", rest))
                return (turn, following) if following else None
        return None

    def count_turn(self, name: str) -> int:
        """The number of the next turn of a session, from 1."""
        session = self.by_name.setdefault(name, Session())
        session.count += 1
        return session.count

    def add(self, name: str, episode: Episode, kind: str) -> ServedTurn:
        """Takes an answer in."""
        turn = ServedTurn(episode)
        if kind == MAIN:
            self.by_name.setdefault(name, Session()).turns.append(turn)
            for part in (turn.history, episode.task.messages):
                self._names.setdefault(_hash(part), name)
        return turn

    def end(self, name: str) -> None:
        """Forgets a session: its last turn stays without feedback. Numbers go on, so that ids stay unique where the
        name is used again."""
        self.by_name.setdefault(name, Session()).turns.clear()
        self._names = {key: other for key, other in self._names.items() if other != name}

    def restore(self, episode: Episode, judged: bool) -> None:
        """Takes in an answer of an earlier process, in the order of the log."""
        name = str(episode.task.meta.get("session", ""))
        if name and episode.policy_turns:
            session = self.by_name.setdefault(name, Session())
            session.count = max(session.count, int(episode.task.meta.get("number", 0)))
            self.add(name, episode, str(episode.task.meta.get("kind", MAIN))).is_judged = judged
            if episode.task.meta.get("done"):
                self.end(name)


def read_request(body: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a request as a prompt.

    Raises:
        ValueError: messages that no policy of words can read, with the place and the reason.
    """
    fields = Fields(Record("request", 0, body), ScoreRange())
    found = read_messages(fields, "messages", allow_unknown=True)
    messages = check_prompt(fields, "messages", found)
    if fields.faults:
        fault = fields.faults[0]
        raise ValueError(f"{fault.field}: {fault.reason}")
    return messages


def build_next_state(episode: Episode, following: Sequence[Message], user: str | None) -> Feedback:
    """What came back for an answer, as a critique: all replies of tools together, or the user's words."""
    is_human = any(message["role"] == "user" for message in following)
    text = "\n\n".join(message["content"] for message in following if message["content"])
    return Feedback("human" if is_human else "environment", user if is_human else None, NAME, text=text or None)


def extend_episode(episode: Episode, following: Sequence[Message]) -> Episode:
    """The episode with what came back after its answer, for a judge."""
    turns = tuple(Turn(m["role"], m["content"], call_id=m.get("tool_call_id")) for m in following)
    return Episode(episode.id, episode.task, (*episode.turns, *turns))


def build_judged_event(episode: Episode, items: Sequence[Feedback]) -> Event:
    """The line of the log with what came back for an answer, and what a judge made of it."""
    place = len(episode.task.messages)
    found = [{"turn": place, **_describe(item)} for item in items]
    return build_feedback_event(episode.id, found, "fdt serve")


def is_own(judgement: Judgement) -> bool:
    """Whether a line of feedback is one of `build_judged_event`."""
    return judgement.annotator == "fdt serve"


def _describe(item: Feedback) -> dict[str, Any]:
    score = {} if item.score != item.score else {"score": item.score}
    named = {"name": item.name, "critique": item.text, "source": item.source, "annotator": item.annotator}
    return {name: value for name, value in named.items() if value is not None} | score


def _is_same(left: Sequence[Message], right: Sequence[Message]) -> bool:
    return [_reduce(message) for message in left] == [_reduce(message) for message in right]


def _reduce(message: Message) -> tuple[str, str, list[tuple[str, Any]], Any]:
    """What of a message clients repeat: not how they write empty content, or a call's arguments."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return (
        message["role"],
        message["content"] or "",
        [(call["name"], _parse(call["arguments"])) for call in calls],
        message.get("tool_call_id"),
    )


def _parse(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments


def _hash(messages: Sequence[Message]) -> str:
    return json.dumps([_reduce(message) for message in messages], sort_keys=True, ensure_ascii=True)
