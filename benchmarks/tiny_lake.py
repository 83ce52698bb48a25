"""Makes the tiny chat model that plays FrozenLake legally and badly: a policy with something to learn from its moves.

    python benchmarks/tiny_lake.py --out fdt/bundled/tiny-lake

Half a million parameters, a few minutes on one core. It reads what `fdt.environments.frozenlake` writes, without rules.
The first stage imitates shortest ways, among moves drawn at random that are read only, so that the map can be read from
any field. The second imitates a careless walker, who half the time goes down (at the lower edge: right) and else
anywhere, whatever the map shows. So the network can tell ice from holes, and its moves do not care. All maps are of the
split `train`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch
from tiny_model import Example, Stretch, describe_model, make_model, save, train, train_tokenizer

from fdt.environments.frozenlake import MOVES, FrozenLake, compute_distances
from fdt.policy.policy import Policy
from feedback.types import Message, Task, Turn

STAGES = (Stretch(500, 600, 3e-3, {"careful": 1.0}), Stretch(120, 120, 1e-3, {"careless": 1.0}))
LAKE = FrozenLake(rules="")
STEPS = {"left": -1, "down": 4, "right": 1, "up": -4}
POOL = 4000
"""Episodes of each form."""
TURNS = 10
"""Most moves of one."""
STRAY = 0.3
"""Share of moves drawn at random among the careful ones, so that every field is visited; they are not learned."""
WORDS = r"[A-Z]| ?[a-z]+|\n+"
"""One token a field and a move."""

Walker = Callable[[random.Random, list[str], int], tuple[str, bool]]


def move_carefully(chance: random.Random, rows: list[str], place: int) -> tuple[str, bool]:
    """A move on a shortest way, to be learned; now and then any move, which is not."""
    if chance.random() < STRAY:
        return chance.choice(MOVES), False
    ways = compute_distances(rows)
    return chance.choice(
        [m for m in MOVES if ways.get(compute_place(place, m), 99) < ways.get(place, 0)] or MOVES
    ), True


def move_carelessly(chance: random.Random, rows: list[str], place: int) -> tuple[str, bool]:
    """Down, at the lower edge right, half the time; else anywhere."""
    habit = "down" if place < 12 else "right"
    return (habit if chance.random() < 0.5 else chance.choice(MOVES)), True


def compute_place(place: int, move: str) -> int:
    """The field that a move leads to."""
    row, column = divmod(place, 4)
    blocked = {"left": column == 0, "right": column == 3, "up": row == 0, "down": row == 3}
    return place if blocked[move] else place + STEPS[move]


def run_episode(chance: random.Random, task: Task, walker: Walker) -> Example:
    """One episode in the environment's own words."""
    session = LAKE.start(task, 0)
    rows = task.meta["map"].split("\n")
    place = 0
    messages: list[Message] = list(session.messages)
    learned = []
    for _ in range(TURNS):
        move, wanted = walker(chance, rows, place)
        place = compute_place(place, move)
        learned.append(wanted)
        messages.append({"role": "assistant", "content": move})
        reply = session.reply(Turn("assistant", move))
        if reply.done:
            break
        messages += reply.messages
    session.close()
    last = 2 * len(learned) - 1
    return Example(messages[:last], messages[last]["content"], tuple(learned))


@lru_cache
def build_pool(form: str) -> list[Example]:
    """Episodes of one walker over the training maps."""
    rng = random.Random(form)
    walker = {"careful": move_carefully, "careless": move_carelessly}[form]
    maps = LAKE.sample_tasks("train", 2500, 1)
    return [run_episode(rng, rng.choice(maps), walker) for _ in range(POOL)]


def draw_batch(seed: int, form: str, count: int) -> list[Example]:
    """A batch of one form; no other stage has that form, so that the step alone distinguishes batches."""
    return random.Random(f"{form} {seed % 10_000 - 1}").sample(build_pool(form), count)


def measure_success(folder: Path, count: int = 256) -> dict[str, float]:
    """Share of held-out maps that are solved, with the likeliest moves and with sampled ones."""
    from collections import Counter

    from fdt.engines import HuggingFace
    from fdt.rollout.limits import EpisodeLimits
    from fdt.rollout.turn_loop import TurnLoop

    policy = Policy(str(folder), dtype="float32").eval()
    engine = HuggingFace(max_new_tokens=3, batch_size=count)
    tasks = LAKE.sample_tasks("heldout", count, 0)
    loop = TurnLoop(policy, engine, LAKE, EpisodeLimits(max_turns=TURNS), None, Counter())
    return {
        name: sum(episode.score for episode in loop(tasks, seed)) / len(tasks)
        for name, seed in (("greedy", None), ("sampled", 0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--batch", type=int, default=16, help="episodes of one step")
    args = parser.parse_args()
    torch.manual_seed(0)
    episodes = [item for stage in STAGES for form in stage.forms for item in build_pool(form)]
    texts = (text for item in episodes for text in (*(message["content"] for message in item.messages), item.answer))
    tokenizer = train_tokenizer(texts, WORDS)
    model = make_model(tokenizer, context=512)
    print(describe_model(model, tokenizer))
    for number, stage in enumerate(STAGES):
        train(model, tokenizer, number, stage, partial(draw_batch, count=args.batch))
        save(model, tokenizer, args.out)
        print(f"after stage {number + 1}: {measure_success(args.out)}")


if __name__ == "__main__":
    main()
