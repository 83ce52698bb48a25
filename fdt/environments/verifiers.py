"""Environments written for the package verifiers (its interface `verifiers.v1`), with our policy in one seat."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, cast

from fdt.environments.base import (
    Environment,
    EnvironmentFault,
    Reply,
    Session,
    import_required,
    select_split,
    try_reply,
)
from fdt.errors import UserError
from feedback.types import Feedback, Message, Task, Turn

PACKAGE = ("verifiers", "'verifiers>=0.4,<0.5'")
TOTAL = "reward"
"""Name of the whole episode's score."""
SLACK = 1e-9
"""Rounding that a sum of rewards may bring."""


@dataclass(frozen=True)
class Verifiers(Environment):
    """A taskset of verifiers, and the environment it runs in, with the policy in one seat.

    Tasks are the taskset's; set-up, turns, stops, limits, metrics and rewards are theirs and run as they are. The
    policy takes the place of a model behind an API: it reads the messages that a plain chat would send. The requests
    must be one conversation that only grows; tool servers, images and programs that run a policy's code are not
    supported.

    The episode scores as `reward` the weighted mean of the rewards; each reward is also there by its name, as
    feedback on the last turn. Metrics are there by their names where they lie in [0, 1].
    """

    config: dict[str, Any]
    """The `env` block of a run of verifiers, such as {taskset: {id: my_taskset}}; `id` names an environment."""
    seat: str | None = None
    """Which agent of the environment the policy is; null: the only one. Others need a model of their own."""
    scale: tuple[float, float] | None = None
    """Lowest and highest sum of weighted rewards, mapped to [0, 1]; null: from the weights, each reward in [0, 1]."""
    critique_keys: tuple[str, ...] = ()
    """Keys of a trace's `info` whose text is a critique of the episode."""
    reference_field: str = "answer"
    """Field of a task's data that holds the right answer, where there is one."""
    max_tasks: int = 1000
    """Most tasks read from a taskset that never ends."""
    timeout_s: float = 600.0
    """Seconds that the environment may take between two turns before it counts as broken."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        rows = list(_load_tasks(self._key, self.max_tasks).items())
        random.Random(seed).shuffle(rows)
        return select_split((self._build_task(key, row) for key, row in rows), split, count)

    def _build_task(self, key: str, row: Any) -> Task:
        right = getattr(row.data, self.reference_field, None)
        return Task(key, build_prompt(row.data), None if right is None else str(right), meta={"name": row.data.name})

    @property
    def _key(self) -> str:
        return json.dumps(self.config, sort_keys=True)

    def start(self, task: Task, seed: int) -> Session:
        if (row := _load_tasks(self._key, self.max_tasks).get(task.key)) is None:
            raise UserError("no such task in its taskset", got=task.key, key="data.environment")
        return _VerifiersSession(self, row)

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Lets all sessions go on at once, then waits for each one's reply."""
        for session, turn in turns:
            cast(_VerifiersSession, session).send_turn(turn)  # made by `start`
        return [try_reply(session, turn) for session, turn in turns]

    def build_feedback(self, trace: Any, turn: int | None) -> tuple[Feedback, ...]:
        """The feedback that a finished trace holds; ``turn`` is the policy's last one, None where it took none.

        Raises:
            EnvironmentFault: where a reward was not computed. UserError: for one outside its bounds.
        """
        if missing := [name for name, reward in trace.rewards.items() if reward is None]:
            raise EnvironmentFault(f"rewards without a value: {', '.join(missing)}")
        critique = "\n".join(str(trace.info[name]) for name in self.critique_keys if trace.info.get(name)) or None
        whole = compute_total_reward(trace.rewards, self.scale) if trace.rewards else math.nan
        found = [Feedback("environment", None, TOTAL, whole, critique)] if trace.rewards or critique else []
        named = {name: reward.score for name, reward in trace.rewards.items()} | trace.metrics
        # Named parts belong to the last turn: the score of the whole then stays the weighted mean alone.
        return (
            *found,
            *(
                Feedback("environment", None, name, value, turn=turn)
                for name, value in named.items()
                if turn is not None and value is not None and 0 <= value <= 1
            ),
        )


class _VerifiersSession(Session):
    """One episode: it runs in a loop of its own, and stands still while the policy is asked."""

    def __init__(self, environment: Verifiers, row: Any) -> None:
        self.environment = environment
        self.turn_index = -1
        self.turn_sent = False
        module = import_required("fdt.environments.verifiers_seat", *PACKAGE)
        self.seat = module.PolicySeat(_load_environment(environment._key), row, environment.seat)
        self.messages: tuple[Message, ...] = ()
        self.request: tuple[Message, ...] = ()
        self.messages_so_far: tuple[Message, ...] = ()
        try:
            if self._wait() is not None:
                raise EnvironmentFault("the episode was over before the policy was asked")
        except BaseException:
            self.close()
            raise
        self.messages = self.request
        self.messages_so_far = self.request

    def send_turn(self, turn: Turn) -> None:
        """Hands over the policy's turn; `reply` waits for what follows."""
        self.turn_index += 1
        self.turn_sent = True
        self.messages_so_far = (*self.messages_so_far, {"role": "assistant", "content": turn.text})
        self.seat.send_turn(turn.text)

    def reply(self, turn: Turn) -> Reply:
        if not self.turn_sent:
            self.send_turn(turn)
        self.turn_sent = False
        trace = self._wait()
        if trace is not None:
            return Reply((), self.environment.build_feedback(trace, self.turn_index))
        before = len(self.messages_so_far)
        self.messages_so_far = self.request
        return Reply(self.request[before:], done=False)

    def truncate(self) -> tuple[Feedback, ...]:
        self.seat.stop()
        try:
            trace = self._wait()
            turn = self.turn_index if self.turn_index >= 0 else None
            return () if trace is None else self.environment.build_feedback(trace, turn)
        except EnvironmentFault as fault:
            raise UserError(
                f"an episode that was truncated could not be scored: {fault}", key="data.environment"
            ) from fault

    def close(self) -> None:
        self.seat.close()

    def _wait(self) -> Any:
        """The finished trace, or None where the policy is asked again (``request``)."""
        event = self.seat.wait(self.environment.timeout_s)
        if not isinstance(event, list):
            return event
        self.request = tuple(to_text_message(message) for message in event)
        before = self.messages_so_far if self.messages else ()
        if [m["content"].strip() for m in self.request[: len(before)]] != [m["content"].strip() for m in before]:
            raise UserError(
                "the environment does not go on with one conversation",
                key="data.environment",
                remedy="use one whose seat is asked once, or in turns of one interaction",
            )
        return None


def build_prompt(data: Any) -> tuple[Message, ...]:
    """A task's prompt, as far as its data hold one; a task whose user opens shows its name until it runs."""
    prompt = data.prompt if data.prompt is not None else (data.name or data.id or "")
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [m.model_dump() for m in prompt]
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    return tuple(to_text_message(message) for message in (*system, *given))


def to_text_message(message: dict[str, Any]) -> Message:
    """A message of text.

    Raises:
        UserError: for tools and images.
    """
    parts = message.get("content") or ""
    if isinstance(parts, list) and all(part.get("type") == "text" for part in parts):
        parts = "".join(part["text"] for part in parts)
    is_plain = message["role"] in ("system", "user", "assistant") and not message.get("tool_calls")
    if not isinstance(parts, str) or not is_plain:
        raise UserError(
            "a message that is not text",
            got=message["role"],
            expected="system, user or assistant text",
            key="data.environment",
        )
    return {"role": message["role"], "content": parts}


def compute_total_reward(rewards: dict[str, Any], scale: tuple[float, float] | None) -> float:
    """The sum of weighted rewards, mapped to [0, 1]; NaN where every weight is 0.

    Without a scale it lies between the sum of the negative weights and that of the positive ones.
    """
    low, high = scale or (
        sum(min(0.0, r.weight) for r in rewards.values()),
        sum(max(0.0, r.weight) for r in rewards.values()),
    )
    outside = [] if scale else [name for name, reward in rewards.items() if not 0 <= reward.score <= 1]
    value = sum(reward.value for reward in rewards.values())
    if outside or not low - SLACK <= value <= high + SLACK:
        raise UserError(
            f"rewards out of bounds: {', '.join(outside) or 'their sum'}",
            got=f"{value:g} as their sum",
            expected=f"{low:g} to {high:g}",
            key="data.environment.scale",
            remedy="name the lowest and the highest sum as `scale`",
        )
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else math.nan


@lru_cache(maxsize=4)
def _load_environment(config: str) -> Any:
    """The environment of a config."""
    vf = import_required("verifiers.v1", *PACKAGE)
    try:
        return vf.load_environment(vf.resolve_env_config(json.loads(config)))
    except (ImportError, AttributeError, TypeError, ValueError) as fault:
        raise UserError(f"verifiers cannot load it: {fault}", got=config, key="data.environment.config") from fault


@lru_cache(maxsize=4)
def _load_tasks(config: str, max_tasks: int) -> dict[str, Any]:
    """The tasks of its taskset by their keys."""
    taskset = _load_environment(config).taskset
    return {task.key: task for task in (taskset if taskset.bounded else islice(taskset, max_tasks))}
