"""The turn loop: engine and environment take turns until every episode of this rank is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from fdt.data.chat.calls import get_tools
from fdt.data.chat.conversations import check_messages_shown
from fdt.data.dialogue import Dialogue
from fdt.distributed import reduce_max_count
from fdt.engines import Engine, Sample
from fdt.engines.returns import generate_samples, get_max_answer_tokens
from fdt.environments import Environment, EnvironmentFault, Reply, Session
from fdt.environments.returns import reply_all, start_session, truncate_session
from fdt.errors import UserError
from fdt.policy.fsdp import is_sharded
from fdt.policy.policy import Policy
from fdt.rollout.limits import EpisodeLimits
from feedback.skills import Skills
from feedback.types import (
    DONE,
    OUT_OF_CONTEXT,
    TURN_LIMIT,
    Episode,
    Feedback,
    Message,
    RetrievedSkill,
    Task,
    Turn,
)

BROKEN = "environment broke, tried again"
REWRITTEN = "turns whose history the chat template rewrote"


@dataclass
class EpisodeState:
    """One episode while it runs."""

    task: Task
    """With the messages that the policy read."""
    session: Session
    dialogue: Dialogue
    skills: tuple[RetrievedSkill, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    feedback: list[Feedback] = field(default_factory=list)
    reply_lengths: list[int] = field(default_factory=list)
    failures: int = 0
    """Sessions that broke before this one."""
    end_reason: str | None = None

    @property
    def turn_count(self) -> int:
        """Turns of the policy so far."""
        return self.dialogue.turn_count

    def end(self, reason: str) -> None:
        """The episode is over; where it was cut, the session gives its feedback for that."""
        self.end_reason = reason
        if reason != DONE:
            self.feedback += truncate_session(self.session)
        self.session.close()


@dataclass
class TurnLoop:
    """Runs episodes. All live ones of a rank are generated together; ranks stay in step where weights are sharded.

    Args:
        policy: current weights.
        engine: generates.
        environment: replies.
        limits: turns, tokens and retries of an episode.
        context: most tokens of a conversation; None is unlimited.
        counts: how episodes ended and how often environments broke, added to.
        skills: finds skills for each task, and may show them in its prompt; None finds none.
        max_new_tokens: most tokens of one turn; None: as the engine has it.
    """

    policy: Policy
    engine: Engine
    environment: Environment
    limits: EpisodeLimits
    context: int | None
    counts: Counter[str]
    skills: Skills | None = None
    max_new_tokens: int | None = None

    def __call__(self, tasks: Sequence[Task], seed: int | None) -> list[Episode]:
        """One episode for each task, in order, with the id of its task.

        Raises:
            UserError: where the environment broke more often than `limits.retries` allows, or says what the chat
                template refuses or leaves out.
        """
        seeds = [((seed or 0) * 1_000_003 + number) % (2**31 - 1) for number in range(len(tasks))]
        found = [()] * len(tasks) if self.skills is None else self.skills.retrieve(tasks)
        seats = [self._start(task, seeds[number], 0, found[number]) for number, task in enumerate(tasks)]
        turn = 0
        while self._has_live(live := [n for n, seat in enumerate(seats) if seat.end_reason is None]):
            self._generate_turns([seats[n] for n in live], None if seed is None else (seed + turn * 7919) % (2**31 - 1))
            replies = reply_all(self.environment, [(seats[n].session, seats[n].turns[-1]) for n in live])
            for n, reply in zip(live, replies, strict=True):
                if isinstance(reply, EnvironmentFault):
                    seats[n].session.close()
                    self._record_failure(seats[n].failures + 1, reply)
                    seats[n] = self._start(tasks[n], seeds[n], seats[n].failures + 1, found[n])
                else:
                    self._apply_reply(seats[n], reply)
            turn += 1
        return [self._build_episode(seat) for seat in seats]

    def _has_live(self, live: list[int]) -> bool:
        # Under FSDP2 a forward is a collective: a rank whose episodes are over generates for no prompts.
        synced = self.engine.reads_live_weights and is_sharded(self.policy)
        return bool(reduce_max_count(len(live), self.policy.device) if synced else live)

    def _start(self, task: Task, seed: int, failures: int, skills: tuple[RetrievedSkill, ...]) -> EpisodeState:
        while True:
            try:
                session = start_session(self.environment, task, seed + failures)
                break
            except (EnvironmentFault, OSError) as fault:
                failures += 1
                self._record_failure(failures, fault)
        messages = tuple(session.messages)
        if self.skills is not None:
            messages = self.skills.place_skills(messages, skills)
        check_messages_shown(messages, bool(get_tools(task)), self.policy.tokenizer, task.key)
        dialogue = Dialogue(messages, self.policy.tokenizer, get_tools(task))
        # What the policy reads, which may be more than the task's prompt: a manual of tools, for instance.
        seat = EpisodeState(replace(task, messages=messages), session, dialogue, skills, failures=failures)
        self._check(seat)
        return seat

    def _record_failure(self, failures: int, fault: Exception) -> None:
        if failures > self.limits.retries:
            raise UserError(
                f"the environment broke: {fault}",
                got=f"{failures} failures of one episode",
                expected=f"at most {self.limits.retries}",
                key="data.limits.retries",
                remedy="repair the environment, or allow more retries",
            ) from fault
        self.counts[BROKEN] += 1

    def _compute_room(self, seat: EpisodeState) -> int | None:
        return None if self.context is None else self.context - len(seat.dialogue.ids)

    def _check(self, seat: EpisodeState) -> None:
        room = self._compute_room(seat)
        if room is not None and room <= 0:
            seat.end(OUT_OF_CONTEXT)

    def _generate_turns(self, seats: list[EpisodeState], seed: int | None) -> None:
        longest = self.max_new_tokens or get_max_answer_tokens(self.engine)
        limits = [self.limits.build_limit(self._compute_room(s), longest, s.turn_count, s.reply_lengths) for s in seats]
        samples = generate_samples(self.engine, self.policy, [seat.dialogue.ids for seat in seats], seed, limits)
        for seat, sample in zip(seats, samples, strict=True):
            turn = build_turn(sample, self.policy.tokenizer)
            seat.turns.append(turn)
            seat.dialogue.append_turn(turn)

    def _apply_reply(self, seat: EpisodeState, reply: Reply) -> None:
        seat.feedback += reply.feedback
        seat.turns += [as_turn(message) for message in reply.messages]
        if reply.done or seat.turn_count >= self.limits.max_turns:
            seat.end(DONE if reply.done else TURN_LIMIT)
            return
        rewritten = seat.dialogue.history_rewrites
        before = len(seat.dialogue.ids)
        read = [*seat.dialogue.messages, *reply.messages]
        check_messages_shown(read, bool(seat.dialogue.tools), self.policy.tokenizer, seat.task.key)
        seat.dialogue.append_messages(reply.messages)
        if seat.dialogue.history_rewrites > rewritten:
            self.counts[REWRITTEN] += 1
            rank_zero_warn(
                "the chat template rewrites the history (it drops earlier reasoning, for instance): each such turn is "
                "a training row of its own, with the history as the template gives it"
            )
        else:
            seat.reply_lengths.append(len(seat.dialogue.ids) - before)
        self._check(seat)

    def _build_episode(self, seat: EpisodeState) -> Episode:
        self.counts[f"episodes: {seat.end_reason}"] += 1
        last = next((turn for turn in reversed(seat.turns) if turn.ids), None)
        finished = last is None or not last.ids or last.ids[-1] in self.policy.stop_ids
        return Episode(
            seat.task.key,
            seat.task,
            tuple(seat.turns),
            tuple(seat.feedback),
            finished=finished,
            end_reason=seat.end_reason,
            skills=seat.skills,
        )


def build_turn(sample: Sample, tokenizer: Any) -> Turn:
    """What the engine sampled, as the policy's turn."""
    text = tokenizer.decode(sample.ids, skip_special_tokens=True)
    return Turn("assistant", text, sample.ids, sample.log_probs, sampled=True)


def as_turn(message: Message) -> Turn:
    """A message of the environment, as a turn."""
    return Turn(message["role"], message["content"], call_id=message.get("tool_call_id"))
