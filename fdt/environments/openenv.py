"""Environments behind a server of OpenEnv, over the client of its package: actions and observations as text."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

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

OWN = ("done", "reward", "metadata")
"""Fields of every observation that are no part of what is seen."""


def as_message(text: str) -> dict[str, Any]:
    """The policy's words as an action with one field, `message`, as OpenEnv's echo environment takes it."""
    return {"message": text}


def as_json(text: str) -> dict[str, Any]:
    """The last JSON object that the policy wrote, as an action; its words as `message` where it wrote none."""
    decoder, found, start = json.JSONDecoder(), None, text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return as_message(text) if found is None else found


def as_text(observation: dict[str, Any]) -> str:
    """What is seen: the field alone where there is one, else each field on a line of its own."""
    seen = {name: value for name, value in observation.items() if name not in OWN and value not in (None, "", [], {})}
    written = {name: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for name, v in seen.items()}
    return next(iter(written.values())) if len(written) == 1 else "\n".join(f"{n}: {v}" for n, v in written.items())


def take_last_reward(rewards: Sequence[float]) -> float:
    """An episode is worth its last reward."""
    return rewards[-1]


def sum_rewards(rewards: Sequence[float]) -> float:
    """An episode is worth the sum of its rewards; it must lie in [0, 1]."""
    return math.fsum(rewards)


@dataclass(frozen=True)
class OpenEnv(Environment):
    """Plays against an environment server. A task is a seed of `reset`; what `reset` shows is the prompt.

    Every reward is scored as `reward` of its turn, the whole episode as `outcome`. An observation without a reward
    gives no score; an episode without any is left to `data.grader`.
    """

    url: str
    """Address of the server, such as http://127.0.0.1:8000."""
    reset: dict[str, Any] = field(default_factory=dict)
    """Further arguments of every `reset`."""
    act: Callable[[str], dict[str, Any]] = as_message
    """From the policy's words to an action: fdt.environments.openenv.as_message, as_json or a function."""
    show: Callable[[dict[str, Any]], str] = as_text
    """From an observation to what the policy reads."""
    worth: Callable[[Sequence[float]], float] = take_last_reward
    """From an episode's rewards to its outcome: fdt.environments.openenv.take_last_reward, summed or a function."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest reward of a turn, mapped to [0, 1]."""
    rules: str = ""
    """What stands before the first observation."""
    patience: float = 60.0
    """Seconds to wait for the server's answer."""

    def __post_init__(self) -> None:
        if not self.scale[0] < self.scale[1]:
            raise ValueError(f"OpenEnv.scale: got {self.scale}, expected a lower and a higher number")

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return select_split(self._generate_tasks(random.Random(seed)), split, count)

    def _generate_tasks(self, chance: random.Random) -> Iterator[Task]:
        # Its opening is the server's to say: a task knows its number, and the session what is seen first.
        while True:
            number = chance.randrange(2**31)
            yield Task(
                f"openenv-{number}",
                ({"role": "user", "content": self.rules or f"task {number}"},),
                meta={"seed": number},
            )

    def start(self, task: Task, seed: int) -> Session:
        return _OpenEnvSession(self, task)

    def reply_all(self, said: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Waits for the server's answers to all sessions at once."""
        with ThreadPoolExecutor(max_workers=min(64, max(1, len(said)))) as pool:
            return list(pool.map(lambda one: try_reply(*one), said))


class _OpenEnvSession(Session):
    """One connection, which is one episode on the server."""

    def __init__(self, rules: OpenEnv, task: Task) -> None:
        openenv = import_required("openenv", "openenv", "'openenv>=0.10,<0.11'")
        self.rules, self.turn, self.rewards = rules, 0, list[float]()
        self.client = openenv.GenericEnvClient(base_url=rules.url, message_timeout_s=rules.patience).sync()
        try:
            seen = self._call_server(lambda: self.client.reset(seed=task.meta["seed"], **rules.reset))
        except BaseException:
            self.close()
            raise
        text = "\n\n".join(part for part in (rules.rules, rules.show(seen.observation)) if part)
        if seen.done or not text:
            self.close()
            raise EnvironmentFault("the episode was over at its reset" if seen.done else "a reset that shows nothing")
        self.socket = self._socket
        self.messages: tuple[Message, ...] = ({"role": "user", "content": text},)

    def reply(self, turn: Turn) -> Reply:
        action = self.rules.act(turn.text)
        result = self._call_server(lambda: self.client.step(action))
        if self._socket is not self.socket:
            # The client connects again by itself, to a fresh environment that was never reset.
            raise EnvironmentFault("the connection was lost, and the episode with it")
        step, self.turn = self.turn, self.turn + 1
        judged = () if result.reward is None else (self._record_reward(float(result.reward), step),)
        if result.done:
            return Reply((), (*judged, *self._build_outcome()))
        seen = self.rules.show(result.observation)
        return Reply(({"role": "user", "content": seen},), judged, done=False)

    def truncate(self) -> tuple[Feedback, ...]:
        return self._build_outcome()

    def close(self) -> None:
        self.client.close()

    @property
    def _socket(self) -> Any:
        return getattr(self.client.async_client, "_ws", None)

    def _call_server(self, ask: Callable[[], Any]) -> Any:
        """What the server answers; whatever keeps it from answering is a fault."""
        try:
            return ask()
        except Exception as fault:
            raise EnvironmentFault(f"{type(fault).__name__}: {fault}") from fault

    def _record_reward(self, reward: float, step: int) -> Feedback:
        low, high = self.rules.scale
        if not low <= reward <= high:
            raise UserError(
                "a reward out of bounds",
                got=f"{reward:g}",
                expected=f"{low:g} to {high:g}",
                key="data.environment.scale",
            )
        self.rewards.append((reward - low) / (high - low))
        return Feedback("environment", None, "reward", self.rewards[-1], turn=step)

    def _build_outcome(self) -> tuple[Feedback, ...]:
        if not self.rewards:
            return ()
        value = self.rules.worth(self.rewards)
        if not 0 <= value <= 1 + 1e-9:
            raise UserError(
                "an outcome out of bounds",
                got=f"{value:g}",
                expected="0 to 1",
                key="data.environment.worth",
                remedy="use final, or a function that stays in bounds",
            )
        return (Feedback("environment", None, "outcome", min(1.0, value)),)
