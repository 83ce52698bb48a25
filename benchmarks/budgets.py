"""Searching with and without a reasoning budget for each turn, at equal total context.

    python benchmarks/budgets.py --folder runs/budgets

Multi-hop questions of `fdt.environments.search` are played by a tiny policy that this script makes first (a minute or
two on one core). It was taught to think before each line, mostly shortly and now and then at great length, to end a
thought by naming what it will look for or answer, and to act on that. What it was never taught is what to do when a
thought is closed before its end. No training conversation held any of the questions; intervals are over questions. The
policy and what was measured stay in the folder, and are not made twice.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from tiny_model import Example, Stretch, described, make_model, save, tokenizer_from, train

from fdt.engines import HuggingFace
from fdt.environments.corpus import build_world
from fdt.environments.search import Search
from fdt.policy.policy import Policy
from fdt.report.table import format_interval
from fdt.rollout.limits import EpisodeLimits, ReasoningBudget
from feedback.types import DONE, OUT_OF_CONTEXT
from fdt.rollout.turn_loop import TurnLoop
from fdt.statistics.intervals import compute_mean_interval, compute_paired_difference
from feedback.types import Episode, Message, Task, Turn

LIBRARY = Search(size=100, results=1, rules="")
STAGE = Stretch(400, 400, 4e-3, {"thinking": 1.0})
THOUGHTS = {"hm": (0.7, 4.0), "well": (0.3, 40.0)}
"""The word that a thought is made of, how often it is chosen, and the mean number of such words."""
LONGEST = 240
"""Tokens of the longest conversation that is taught."""
CONTEXTS = (128, 192, 256)
TURNS, DRAWS = 5, 4
BUDGET = ReasoningBudget(min_tokens=4, max_tokens=64, answer_tokens=16, reply_tokens=24)
SHAPE = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = r"\d| ?[A-Za-z]+|\n+"


def thought(chance: random.Random, end: str) -> str:
    """A thought of random length that ends by naming something."""
    (word,) = chance.choices(list(THOUGHTS), [share for share, _ in THOUGHTS.values()])
    length = 1 + int(math.log(1 - chance.random()) / math.log(1 - 1 / THOUGHTS[word][1]))
    return f"<think>{' '.join([word] * length)} so {end}</think>"


def conversation(chance: random.Random, task: Task) -> Example:
    """One question: its articles searched for in order, then answered, in the environment's own words."""
    session = LIBRARY.start(task, 0)
    messages: list[Message] = list(session.messages)
    lines = [("search", title) for title in task.meta["path"]] + [("answer", task.reference or "")]
    for verb, words in lines[:-1]:
        said = f"{thought(chance, words)}\n{verb}: {words}"
        messages += [{"role": "assistant", "content": said}, *session.reply(Turn("assistant", said)).messages]
    verb, words = lines[-1]
    return Example(messages, f"{thought(chance, words)}\n{verb}: {words}", (True,) * len(lines))


@lru_cache
def pool() -> list[Example]:
    """Conversations about the training questions, none too long."""
    chance, tasks = random.Random("taught"), LIBRARY.sample_tasks("train", 10_000, 0)
    made = (conversation(chance, chance.choice(tasks)) for _ in range(4000))
    return [item for item in made if length(item) < LONGEST]


def length(item: Example) -> int:
    """Words of a conversation, which are its tokens but for a few."""
    return sum(len(text.split()) + 4 for text in (*(message["content"] for message in item.messages), item.answer))


def drawn(seed: int, form: str, count: int) -> list[Example]:
    """A batch."""
    return random.Random(f"{form} {seed}").sample(pool(), count)


def make_policy(folder: Path, batch: int) -> None:
    """Trains the policy and writes it, unless it is there."""
    if (folder / "config.json").is_file():
        return
    torch.manual_seed(0)
    made = build_world(LIBRARY.size, LIBRARY.seed)
    texts = [text for item in pool() for text in (*(message["content"] for message in item.messages), item.answer)]
    tokenizer = tokenizer_from([*texts, *made.texts, *made.titles], WORDS, ("<think>", "</think>"))
    model = make_model(tokenizer, context=512, **SHAPE)
    print(described(model, tokenizer))
    train(model, tokenizer, 0, STAGE, partial(drawn, count=batch))
    save(model, tokenizer, folder)


@dataclass(frozen=True)
class Row:
    """What one way of playing came to: values for each question, means over its episodes."""

    context: int
    budget: bool
    right: list[float]
    turns: list[float]
    out: list[float]
    """Share of episodes that ran out of context."""
    done: list[float]
    """Share of episodes that came to an answer."""
    forced: list[float]
    """Thoughts that were closed by force, in an episode."""


def forced(episode: Episode) -> int:
    """How many of an episode's thoughts were closed by force."""
    return sum(any(map(math.isnan, turn.log_probs or ())) for turn in episode.turns)


def played(policy: Policy, tasks: Sequence[Task], context: int, budget: bool) -> Row:
    """Plays every question ``DRAWS`` times, sampled."""
    play = EpisodeLimits(max_turns=TURNS, budget=BUDGET if budget else None)
    loop = TurnLoop(policy, HuggingFace(max_new_tokens=context, batch_size=256), LIBRARY, play, context, Counter())
    rounds = [loop(tasks, seed) for seed in range(DRAWS)]

    def mean(value) -> list[float]:
        return [sum(value(episode) for episode in same) / DRAWS for same in zip(*rounds, strict=True)]

    return Row(
        context,
        budget,
        mean(lambda e: e.score),
        mean(lambda e: sum(t.role == "assistant" for t in e.turns)),
        mean(lambda e: e.end_reason == OUT_OF_CONTEXT),
        mean(lambda e: e.end_reason == DONE),
        mean(forced),
    )


def kept(folder: Path, policy: Policy, tasks: Sequence[Task], context: int, budget: bool) -> Row:
    """The row as a former call measured it, or measured now and kept."""
    path = folder / f"{context}-{'each-turn' if budget else 'none'}.json"
    if not path.is_file():
        path.write_text(json.dumps(asdict(played(policy, tasks, context, budget))), encoding="utf-8")
    return Row(**json.loads(path.read_text(encoding="utf-8")))


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line for each way of playing, and the paired differences."""
    lines = [
        "| context | budget | right, % | answered, % | out of context, % | turns | thoughts closed |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        shares = " | ".join(
            format_interval(compute_mean_interval(values), 100, ".1f") for values in (row.right, row.done, row.out)
        )
        counts = " | ".join(
            format_interval(compute_mean_interval(values), 1, ".2f") for values in (row.turns, row.forced)
        )
        lines.append(f"| {row.context} | {'each turn' if row.budget else 'none'} | {shares} | {counts} |")
    lines += ["", "| context | with budget - without: right, points | out of context, points |", "|--:|--:|--:|"]
    for context in dict.fromkeys(row.context for row in rows):
        without, with_ = sorted((row for row in rows if row.context == context), key=lambda row: row.budget)
        gaps = (compute_paired_difference(getattr(without, name), getattr(with_, name)) for name in ("right", "out"))
        lines.append(f"| {context} | {' | '.join(format_interval(gap, 100, '+.1f') for gap in gaps)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/budgets"), help="the policy, and what was measured")
    parser.add_argument("--batch", type=int, default=16, help="conversations of one training step")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, help="tokens of one conversation")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    make_policy(asked.folder / "model", asked.batch)
    policy = Policy(str(asked.folder / "model"), dtype="float32").eval()
    tasks = [task for split in ("heldout", "test") for task in LIBRARY.sample_tasks(split, 10_000, 0)]
    rows = [
        kept(asked.folder, policy, tasks, context, budget) for context in asked.contexts for budget in (False, True)
    ]
    print(f"{len(tasks)} questions x {DRAWS} episodes, at most {TURNS} turns, {BUDGET}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
