"""FrozenLake as text: find the way over the ice without falling in. Maps are random, solvable and do not slip."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fdt.environments.base import Environment, Reply, Session, import_required, select_split
from feedback.types import Feedback, Message, Task, Turn

MOVES = ("left", "down", "right", "up")
"""Words for gymnasium's actions 0 to 3."""
RULES = (
    "You stand at P on a frozen lake and want to reach G. F is ice, H is a hole. "
    "Each time, answer with one move: left, down, right or up."
)


def reward_progress(closer: float, reached: bool) -> float:
    """The share of the way that this move newly covered; over an episode at most 1."""
    return closer


def reward_goal(closer: float, reached: bool) -> float:
    """1 for the move onto the goal, else 0."""
    return float(reached)


@dataclass(frozen=True)
class FrozenLake(Environment):
    """Gymnasium's FrozenLake-v1 (extra `gym`). Each turn is scored as `reward`, the whole episode as `success`.

    A bad move (a hole, an edge, an answer without a move) gets a critique. Maps of different splits differ.
    """

    size: int = 4
    """Rows and columns."""
    ice: float = 0.75
    """Chance that a field is ice."""
    reward: Callable[[float, bool], float] = reward_progress
    """Reward of a move: fdt.environments.frozenlake.reward_progress, reward_goal, or a function of the share of the way
    newly covered and of whether the goal is reached."""
    rules: str = RULES
    """Text before the first map; may be empty."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        # A small lake has few maps: after so many draws of a split, what is found is all.
        return select_split(self._generate_tasks(random.Random(seed), 50 * count + 1000), split, count)

    def _generate_tasks(self, rng: random.Random, most: int) -> Iterator[Task]:
        toy = import_required("gymnasium.envs.toy_text.frozen_lake", "gymnasium")
        for _ in range(most):
            rows = toy.generate_random_map(size=self.size, p=self.ice, seed=rng.randrange(2**31))
            lake = "\n".join(rows)
            text = f"{self.rules}\n\n{render_map(rows, 0)}".strip()
            yield Task(f"lake-{'-'.join(rows)}", ({"role": "user", "content": text},), meta={"map": lake})

    def start(self, task: Task, seed: int) -> Session:
        return _LakeSession(task, self.reward, seed)


class _LakeSession(Session):
    def __init__(self, task: Task, reward: Callable[[float, bool], float], seed: int) -> None:
        gymnasium = import_required("gymnasium", "gymnasium")
        self.messages = task.messages
        self.reward = reward
        self.turn_index = 0
        self.rows = task.meta["map"].split("\n")
        self.lake = gymnasium.make("FrozenLake-v1", desc=self.rows, is_slippery=False)
        self.lake.reset(seed=seed)
        self.place = 0
        self.ways = compute_distances(self.rows)
        self.nearest = self.ways[0]

    def reply(self, turn: Turn) -> Reply:
        move = parse_move(turn.text)
        critique: str | None = None
        done = False
        reached = False
        if move is None:
            critique = "There is no move in it: answer left, down, right or up."
        else:
            before = self.place
            self.place, _, done, _, _ = self.lake.step(move)
            reached = done and self._field == "G"
            if done and not reached:
                critique = f"Going {MOVES[move]} led into a hole."
            elif self.place == before:
                critique = f"Going {MOVES[move]} led against the edge."
        item = Feedback("environment", None, "reward", self._compute_reward(reached), critique, self.turn_index)
        self.turn_index += 1
        if done:
            return Reply((), (item, _build_success(reached)))
        return Reply((self._render_observation(critique),), (item,), done=False)

    def truncate(self) -> tuple[Feedback, ...]:
        return (_build_success(False),)

    def close(self) -> None:
        self.lake.close()

    @property
    def _field(self) -> str:
        return "".join(self.rows)[self.place]

    def _compute_reward(self, reached: bool) -> float:
        way = self.ways.get(self.place, self.nearest)
        covered = max(0, self.nearest - way) / self.ways[0]
        self.nearest = min(self.nearest, way)
        return self.reward(covered, reached)

    def _render_observation(self, critique: str | None) -> Message:
        picture = render_map(self.rows, self.place)
        return {"role": "user", "content": f"{critique}\n\n{picture}" if critique else picture}


def _build_success(reached: bool) -> Feedback:
    return Feedback("environment", None, "success", float(reached))


def parse_move(text: str) -> int | None:
    """The last move that a text names, as gymnasium's action."""
    found = re.findall(r"\b(left|down|right|up)\b", text.lower())
    return MOVES.index(found[-1]) if found else None


def render_map(rows: list[str], place: int) -> str:
    """The map with the player on it."""
    flat = list("".join(rows))
    flat[place] = "P"
    size = len(rows)
    return "\n".join("".join(flat[start : start + size]) for start in range(0, size * size, size))


def compute_distances(rows: list[str]) -> dict[int, int]:
    """Moves from each field to the goal, over ice; fields that cannot reach it, and holes, are left out."""
    size = len(rows)
    flat = "".join(rows)
    found = {flat.index("G"): 0}
    edge = [flat.index("G")]
    for place in edge:
        row, column = divmod(place, size)
        near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        for other in (r * size + c for r, c in near if 0 <= r < size and 0 <= c < size):
            if other not in found and flat[other] != "H":
                found[other] = found[place] + 1
                edge.append(other)
    return found
