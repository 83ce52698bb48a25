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
"""Fields of every observation that the policy does not read."""


def as_message(text: str) -> dict[str, Any]:
    """The policy's text as an action with one field, `message`, as OpenEnv's echo environment takes it."""
    return {"message": text}


def as_json(text: str) -> dict[str, Any]:
    """The last JSON object that the policy wrote, as an action; its text as `message` where it wrote none."""
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    start = text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return as_message(text) if found is None else found


def as_text(observation: dict[str, Any]) -> str:
    """What the policy reads: the field alone where there is one, else each field on a line of its own."""
    fields = {name: value for name, value in observation.items() if name not in OWN and value not in (None, "", [], {})}
    texts = {name: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for name, v in fields.items()}
    return next(iter(texts.values())) if len(texts) == 1 else "\n".join(f"{n}: {v}" for n, v in texts.items())


def take_last_reward(rewards: Sequence[float]) -> float:
    """An episode's outcome is its last reward."""
    return rewards[-1]


def sum_rewards(rewards: Sequence[float]) -> float:
    """An episode's outcome is the sum of its rewards; it must lie in [0, 1]."""
    return math.fsum(rewards)


@dataclass(frozen=True)
class OpenEnv(Environment):
    """An environment behind a server. A task is a seed of `reset`; what `reset` shows is the prompt.

    Every reward is scored as `reward` of its turn, the whole episode as `outcome`. An observation without a reward
    gives no score; an episode without any is left to `data.grader`.
    """

    url: str
    """Address of the server, such as http://127.0.0.1:8000."""
    reset: dict[str, Any] = field(default_factory=dict)
    """Further arguments of every `reset`."""
    parse_action: Callable[[str], dict[str, Any]] = as_message
    """From the policy's text to an action: fdt.environments.openenv.as_message, as_json or a function."""
    render_observation: Callable[[dict[str, Any]], str] = as_text
    """From an observation to what the policy reads."""
    aggregate_rewards: Callable[[Sequence[float]], float] = take_last_reward
    """From an episode's rewards to its outcome: fdt.environments.openenv.take_last_reward, sum_rewards, a function."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest reward of a turn, mapped to [0, 1]."""
    rules: str = ""
    """Text before the first observation."""
    timeout_s: float = 60.0
    """Seconds to wait for the server's answer."""

    def __post_init__(self) -> None:
        if not self.scale[0] < self.scale[1]:
            raise ValueError(f"OpenEnv.scale: got {self.scale}, expected a lower and a higher number")

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return select_split(self._generate_tasks(random.Random(seed)), split, count)

    def _generate_tasks(self, rng: random.Random) -> Iterator[Task]:
        # Only the server knows the first observation: a task holds its number, and the session what is read first.
        while True:
            number = rng.randrange(2**31)
            yield Task(
                f"openenv-{number}",
                ({"role": "user", "content": self.rules or f"task {number}"},),
                meta={"seed": number},
            )

    def start(self, task: Task, seed: int) -> Session:
        return _OpenEnvSession(self, task)

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Waits for the server's answers to all sessions at once."""
        with ThreadPoolExecutor(max_workers=min(64, max(1, len(turns)))) as pool:
            return list(pool.map(lambda one: try_reply(*one), turns))


class _OpenEnvSession(Session):
    """One connection, which is one episode on the server."""

    def __init__(self, environment: OpenEnv, task: Task) -> None:
        openenv = import_required("openenv", "openenv", "'openenv>=0.10,<0.11'")
        self.environment = environment
        self.turn_index = 0
        self.rewards: list[float] = []
        client = openenv.GenericEnvClient(base_url=environment.url, message_timeout_s=environment.timeout_s)
        self.client = client.sync()
        try:
            first = self._call_server(lambda: self.client.reset(seed=task.meta["seed"], **environment.reset))
        except BaseException:
            self.close()
            raise
        shown = environment.render_observation(first.observation)
        text = "\n\n".join(part for part in (environment.rules, shown) if part)
        if first.done or not text:
            self.close()
            raise EnvironmentFault("the episode was over at its reset" if first.done else "a reset that shows nothing")
        self.socket = self._socket
        self.messages: tuple[Message, ...] = ({"role": "user", "content": text},)

    def reply(self, turn: Turn) -> Reply:
        action = self.environment.parse_action(turn.text)
        result = self._call_server(lambda: self.client.step(action))
        if self._socket is not self.socket:
            # The client connects again by itself, to a fresh environment that was never reset.
            raise EnvironmentFault("the connection was lost, and the episode with it")
        items = () if result.reward is None else (self._record_reward(float(result.reward), self.turn_index),)
        self.turn_index += 1
        if result.done:
            return Reply((), (*items, *self._build_outcome()))
        shown = self.environment.render_observation(result.observation)
        return Reply(({"role": "user", "content": shown},), items, done=False)

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

    def _record_reward(self, reward: float, turn_index: int) -> Feedback:
        low, high = self.environment.scale
        if not low <= reward <= high:
            raise UserError(
                "a reward out of bounds",
                got=f"{reward:g}",
                expected=f"{low:g} to {high:g}",
                key="data.environment.scale",
            )
        self.rewards.append((reward - low) / (high - low))
        return Feedback("environment", None, "reward", self.rewards[-1], turn=turn_index)

    def _build_outcome(self) -> tuple[Feedback, ...]:
        if not self.rewards:
            return ()
        value = self.environment.aggregate_rewards(self.rewards)
        if not 0 <= value <= 1 + 1e-9:
            raise UserError(
                "an outcome out of bounds",
                got=f"{value:g}",
                expected="0 to 1",
                key="data.environment.aggregate_rewards",
                remedy="use take_last_reward, or a function that stays in bounds",
            )
        return (Feedback("environment", None, "outcome", min(1.0, value)),)
