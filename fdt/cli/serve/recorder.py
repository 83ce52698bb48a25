"""The log of a proxy: every answer before its reply ends, what came back for it, and what a judge made of that."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fdt.cli.serve.answers import Answer
from fdt.cli.serve.sessions import (
    MAIN,
    ServedTurn,
    Sessions,
    build_judged_event,
    build_next_state,
    extend_episode,
    is_own,
)
from feedback.faults import DataError
from feedback.graders import Grader
from feedback.logs import LogFile
from feedback.logs.episodes import build_episode_event, parse_episode
from feedback.logs.judgements import EPISODE, parse_judgement
from feedback.types import Episode, Message, Task, Turn, hash_prompt

ToJudge = tuple[ServedTurn, tuple[Message, ...], str | None]
"""A turn, what came back for it, and who said it."""


@dataclass(frozen=True)
class Asked:
    """A request."""

    session: str
    turn_id: str
    messages: tuple[Message, ...]
    kind: str = MAIN
    """main or side."""
    is_last: bool = False
    """Whether the session ends with it."""
    user: str | None = None
    """Who asks, where the client says so."""
    tools: tuple[Any, ...] = ()
    """Tools that are offered."""


class Recorder:
    """Sessions and their log. May be called from several threads."""

    def __init__(self, path: Path, judge: Grader | None = None):
        """Opens or makes the log and goes on with the sessions that it holds; raises `DataError` for a file that is
        none."""
        self.log = LogFile(path)
        self.sessions = Sessions()
        self.judge = judge
        self.num_answers = 0
        self.num_unjudged = 0
        """Answers that the judge could not judge: what came back for them is recorded without its votes."""
        self._lock = threading.RLock()
        self._judging = ThreadPoolExecutor(1, "judge")
        self._restore()

    def begin(self, messages: tuple[Message, ...], name: str | None) -> tuple[str, str]:
        """The session of a request, and the id of the turn that it asks for."""
        with self._lock:
            name = name or self.sessions.find_name(messages)
            return name, f"{name}/{self.sessions.count_turn(name)}"

    def finish(self, asked: Asked, answer: Answer) -> ToJudge | None:
        """Puts an answer on record, on the disk when this returns; what is left for the judge.

        Raises:
            DataError: the disk is full or fails; then nothing may be answered.
        """
        episode = build_episode(asked, answer)
        with self._lock:
            previous = self.sessions.find_previous(asked.session, asked.messages) if asked.kind == MAIN else None
            events = [build_episode_event(episode)]
            if previous is not None and self.judge is None:
                state = build_next_state(previous[0].episode, previous[1], asked.user)
                events.insert(0, build_judged_event(previous[0].episode, [state]))
            self.log.append(*events)
            self.num_answers += 1
            if previous is not None:
                previous[0].is_judged = True
            self.sessions.add(asked.session, episode, asked.kind)
            if asked.is_last:
                self.sessions.end(asked.session)
        return (*previous, asked.user) if previous is not None and self.judge is not None else None

    def start_judge(self, turn: ServedTurn, following: Sequence[Message], user: str | None) -> None:
        """`run_judge` beside what is answered next; judgements are made one after the other."""
        self._judging.submit(self.run_judge, turn, following, user)

    def run_judge(self, turn: ServedTurn, following: Sequence[Message], user: str | None) -> None:
        """Has the judge vote on an answer by what came back for it, and puts both on record.

        Raises:
            DataError: the disk is full or fails.
        """
        assert self.judge is not None
        items = [build_next_state(turn.episode, following, user)]
        try:
            (judged,) = self.judge([extend_episode(turn.episode, following)])
            items += [replace(item, turn=None) for item in judged.feedback]
        except DataError as error:  # a server that is away, a budget that is spent
            self.num_unjudged += 1
            print(f"fdt: {turn.episode.id}: recorded without the judge's votes: {error}", flush=True)
        with self._lock:
            self.log.append(build_judged_event(turn.episode, items))

    def close(self) -> None:
        """Waits for the judge and closes the log."""
        self._judging.shutdown()
        self.log.close()

    def _restore(self) -> None:
        """Takes in what the log holds; a turn whose next message is in it, but not as feedback, is given it as such."""
        events = self.log.read_new()
        judged = {j.episode for j in (parse_judgement(e) for e in events if e["event"] != EPISODE) if is_own(j)}
        for event in events:
            if event["event"] == EPISODE:
                self._restore_turn(parse_episode(event, self.log.path, self.log.line), judged)

    def _restore_turn(self, episode: Episode, judged: set[str]) -> None:
        name = str(episode.task.meta.get("session", ""))
        kind = episode.task.meta.get("kind", MAIN)
        previous = self.sessions.find_previous(name, episode.task.messages) if kind == MAIN else None
        if previous is not None:  # a kill came before its judge
            self.log.append(
                build_judged_event(previous[0].episode, [build_next_state(previous[0].episode, previous[1], None)])
            )
            previous[0].is_judged = True
        self.sessions.restore(episode, episode.id in judged)


def build_episode(asked: Asked, answer: Answer) -> Episode:
    """An answer as an episode of one turn."""
    number = int(asked.turn_id.rpartition("/")[2])
    notes = {"session": asked.session, "number": number, "kind": asked.kind, "served_by": answer.weights}
    notes |= {name: value for name, value in (("done", asked.is_last), ("tools", asked.tools)) if value}
    turn = Turn(
        "assistant", answer.text, answer.ids, answer.log_probs, sampled=answer.ids is not None, calls=answer.calls
    )
    task = Task(hash_prompt(asked.messages), asked.messages, meta=notes)
    return Episode(asked.turn_id, task, (turn,), finished=answer.finish != "length")
