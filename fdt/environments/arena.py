"""Games of TextArena for two, against an opponent that moves at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fdt.environments.base import Environment, EnvironmentFault, Reply, Session, import_required, select_split
from feedback.types import Feedback, Task, Turn


def pick_random_move(observation: str, rng: random.Random) -> str:
    """One of the moves in square brackets that the last text names, as in ``Available Moves: '[0]', '[4]'``."""
    offered = observation.rsplit("Available Moves:", 1)[-1]
    return rng.choice(re.findall(r"\[[^\[\]]+\]", offered) or ["[0]"])


@dataclass(frozen=True)
class TextArena(Environment):
    """A game of the package textarena (extra `gym`) for two players. The episode scores 1 for a win, 0.5 for a draw, as
    `won`.

    Who begins and what the opponent draws belong to the task, so that a group of episodes meets the same opponent.
    """

    game: str = "TicTacToe-v0"
    """Name of the game, as textarena.make takes it."""
    opponent: Callable[[str, random.Random], str] = pick_random_move
    """Moves for the other player: a function of what that player sees and of a random generator."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        rng = random.Random(seed)
        tasks = (self._build_task(rng.randrange(2**31), rng.randrange(2)) for _ in range(50 * count + 1000))
        return select_split(tasks, split, count)

    def _build_task(self, number: int, seat: int) -> Task:
        # The opening is what the player sees first: who sits in the second seat sees an answer to it.
        opening = _ArenaSession(self, number, seat).messages
        return Task(f"{self.game}-{number}-{seat}", opening, meta={"seed": number, "seat": seat})

    def start(self, task: Task, seed: int) -> Session:
        return _ArenaSession(self, task.meta["seed"], task.meta["seat"])


class _ArenaSession(Session):
    def __init__(self, arena: TextArena, seed: int, seat: int) -> None:
        textarena = import_required("textarena", "textarena")
        self.arena = arena
        self.seat = seat
        self.rng = random.Random(seed)
        self.game = textarena.make(arena.game)
        self.game.reset(num_players=2, seed=seed)
        self.shown_text = ""
        done, observation = self._advance()
        if done:
            raise EnvironmentFault(f"{arena.game} was over before the policy could move")
        self.messages = ({"role": "user", "content": observation},)

    def reply(self, turn: Turn) -> Reply:
        done = self.game.step(action=turn.text)[0]
        if not done:
            done, observation = self._advance()
            if not done:
                return Reply(({"role": "user", "content": observation},), done=False)
        rewards, info = self.game.close()
        # TextArena rewards from -1 for a loss to 1 for a win.
        score = (float(rewards[self.seat]) + 1) / 2
        reason = _get_reason(info, self.seat)
        return Reply((), (Feedback("environment", None, "won", score, None if score == 1 else reason),))

    def truncate(self) -> tuple[Feedback, ...]:
        return (Feedback("environment", None, "won", 0.0, "The game was not over when its turns or its context were."),)

    def _advance(self) -> tuple[bool, str]:
        """Lets the opponent move until the policy's turn; whether the game ended, and what the policy sees."""
        while True:
            player, observation = self.game.get_observation()
            text = str(observation)
            if player == self.seat:
                # An observation repeats the game from its beginning; only what is new goes to the policy.
                new = text.removeprefix(self.shown_text)
                self.shown_text = text
                return False, new.strip()
            if self.game.step(action=self.arena.opponent(text, self.rng))[0]:
                return True, ""


def _get_reason(info: Any, seat: int) -> str | None:
    """Why the game ended as it did, where it gives a reason."""
    own = info.get(seat, info) if isinstance(info, dict) else {}
    reason = own.get("reason") if isinstance(own, dict) else None
    return str(reason) if reason else None
