"""Searching with and without a reasoning budget for each turn, at equal total context.

    python benchmarks/budgets.py --folder runs/budgets

A tiny policy that this script trains first (a minute or two on one core) answers the multi-hop questions of
`fdt.environments.search`. It learned to think before each line, mostly shortly and now and then at great length, to end
a thought by naming what it will look for or answer, and to act on that. It never learned what to do when a thought is
closed before its end. No training conversation held any of the questions; intervals are over questions. The
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
from tiny_model import Example, Stretch, describe_model, make_model, save, train, train_tokenizer

from fdt.engines import HuggingFace
from fdt.environments.corpus import build_world
from fdt.environments.search import Search
from fdt.policy.policy import Policy
from fdt.report.table import format_interval
from fdt.rollout.limits import EpisodeLimits, ReasoningBudget
from fdt.rollout.turn_loop import TurnLoop
from fdt.statistics.intervals import compute_mean_interval, compute_paired_difference
from feedback.types import DONE, OUT_OF_CONTEXT, Episode, Message, Task, Turn

LIBRARY = Search(size=100, results=1, rules="")
STAGE = Stretch(400, 400, 4e-3, {"thinking": 1.0})
THOUGHTS = {"hm": (0.7, 4.0), "well": (0.3, 40.0)}
"""The word that a thought is made of, how often it is chosen, and the mean number of such words."""
LONGEST = 240
"""Tokens of the longest training conversation."""
CONTEXTS = (128, 192, 256)
TURNS = 5
DRAWS = 4
BUDGET = ReasoningBudget(min_tokens=4, max_tokens=64, answer_tokens=16, reply_tokens=24)
SHAPE = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = r"\d| ?[A-Za-z]+|\n+"


def write_thought(chance: random.Random, end: str) -> str:
    """A thought of random length that ends by naming something."""
    (word,) = chance.choices(list(THOUGHTS), [share for share, _ in THOUGHTS.values()])
    length = 1 + int(math.log(1 - chance.random()) / math.log(1 - 1 / THOUGHTS[word][1]))
    return f"<think>{' '.join([word] * length)} so {end}</think>"


def build_conversation(chance: random.Random, task: Task) -> Example:
    """One question: its articles searched for in order, then answered, in the environment's own words."""
    session = LIBRARY.start(task, 0)
    messages: list[Message] = list(session.messages)
    lines = [("search", title) for title in task.meta["path"]] + [("answer", task.reference or "")]
    for verb, words in lines[:-1]:
        text = f"{write_thought(chance, words)}\n{verb}: {words}"
        messages += [{"role": "assistant", "content": text}, *session.reply(Turn("assistant", text)).messages]
    verb, words = lines[-1]
    return Example(messages, f"{write_thought(chance, words)}\n{verb}: {words}", (True,) * len(lines))


@lru_cache
def build_pool() -> list[Example]:
    """Conversations about the training questions, none too long."""
    rng = random.Random("taught")
    tasks = LIBRARY.sample_tasks("train", 10_000, 0)
    made = (build_conversation(rng, rng.choice(tasks)) for _ in range(4000))
    return [item for item in made if count_words(item) < LONGEST]


def count_words(item: Example) -> int:
    """Words of a conversation, which are its tokens but for a few."""
    return sum(len(text.split()) + 4 for text in (*(message["content"] for message in item.messages), item.answer))


def draw_batch(seed: int, form: str, count: int) -> list[Example]:
    """A batch."""
    return random.Random(f"{form} {seed}").sample(build_pool(), count)


def make_policy(folder: Path, batch: int) -> None:
    """Trains the policy and writes it, unless it is there."""
    if (folder / "config.json").is_file():
        return
    torch.manual_seed(0)
    made = build_world(LIBRARY.size, LIBRARY.seed)
    texts = [
        text for item in build_pool() for text in (*(message["content"] for message in item.messages), item.answer)
    ]
    tokenizer = train_tokenizer([*texts, *made.texts, *made.titles], WORDS, ("<think>", "</think>"))
    model = make_model(tokenizer, context=512, **SHAPE)
    print(describe_model(model, tokenizer))
    train(model, tokenizer, 0, STAGE, partial(draw_batch, count=batch))
    save(model, tokenizer, folder)


@dataclass(frozen=True)
class Row:
    """What came of one setting: values for each question, means over its episodes."""

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


def count_forced(episode: Episode) -> int:
    """How many of an episode's thoughts were closed by force."""
    return sum(any(map(math.isnan, turn.log_probs or ())) for turn in episode.turns)


def measure_row(policy: Policy, tasks: Sequence[Task], context: int, budget: bool) -> Row:
    """Answers every question ``DRAWS`` times, sampled."""
    limits = EpisodeLimits(max_turns=TURNS, budget=BUDGET if budget else None)
    loop = TurnLoop(policy, HuggingFace(max_new_tokens=context, batch_size=256), LIBRARY, limits, context, Counter())
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


def load_or_measure(folder: Path, policy: Policy, tasks: Sequence[Task], context: int, budget: bool) -> Row:
    """The row as a former call measured it, or measured now and kept."""
    path = folder / f"{context}-{'each-turn' if budget else 'none'}.json"
    if not path.is_file():
        path.write_text(json.dumps(asdict(measure_row(policy, tasks, context, budget))), encoding="utf-8")
    return Row(**json.loads(path.read_text(encoding="utf-8")))


def format_table(rows: Sequence[Row]) -> str:
    """Markdown: one line for each setting, and the paired differences."""
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
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_policy(args.folder / "model", args.batch)
    policy = Policy(str(args.folder / "model"), dtype="float32").eval()
    tasks = [task for split in ("heldout", "test") for task in LIBRARY.sample_tasks(split, 10_000, 0)]
    rows = [
        load_or_measure(args.folder, policy, tasks, context, budget)
        for context in args.contexts
        for budget in (False, True)
    ]
    print(f"{len(tasks)} questions x {DRAWS} episodes, at most {TURNS} turns, {BUDGET}\n\n{format_table(rows)}")


if __name__ == "__main__":
    main()
