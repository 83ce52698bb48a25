"""The bundled lake walker plays legally and badly, and tiny models learn what was meant."""

from __future__ import annotations

import importlib
from collections import Counter
from types import ModuleType

import pytest
import torch

from fdt.environments.frozenlake import MOVES, FrozenLake, parse_move
from fdt.policy.hub import compute_folder_size, resolve_model
from tests.helpers.paths import ROOT

LAKE = FrozenLake(rules="")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("tiny_lake")


def test_the_bundled_walker_is_small():
    assert compute_folder_size(resolve_model("tiny-lake")) < 3e6


def test_the_bundled_walker_answers_with_moves_and_seldom_arrives():
    from fdt.engines import HuggingFace
    from fdt.policy.policy import Policy
    from fdt.rollout.limits import EpisodeLimits
    from fdt.rollout.turn_loop import TurnLoop

    policy = Policy("tiny-lake", dtype="float32").eval()
    loop = TurnLoop(
        policy, HuggingFace(max_new_tokens=3, batch_size=128), LAKE, EpisodeLimits(max_turns=10), None, Counter()
    )
    episodes = loop(LAKE.sample_tasks("heldout", 96, 5), seed=3)
    moves = [turn.text for episode in episodes for turn in episode.turns if turn.role == "assistant"]
    assert len(moves) > 300 and sum(parse_move(text) is not None for text in moves) >= 0.98 * len(moves)
    # Sampled it solves one in eleven: 9 of 96 expected, standard deviation sqrt(96 / 11 · 10 / 11) = 2.8.
    assert 1 <= sum(episode.score for episode in episodes) <= 20
    # It goes down half the time and else anywhere, so every move is seen.
    assert all(Counter(moves)[move] > len(moves) / 20 for move in MOVES)


def test_careful_moves_are_learned_and_stray_ones_read(recipe: ModuleType):
    import random

    from fdt.environments.frozenlake import compute_distances

    chance, task = random.Random(0), LAKE.sample_tasks("train", 1, 0)[0]
    rows = task.meta["map"].split("\n")
    for _ in range(50):
        example = recipe.run_episode(chance, task, recipe.move_carefully)
        moves = [m["content"] for m in example.messages if m["role"] == "assistant"] + [example.answer]
        place, ways = 0, compute_distances(rows)
        for move, learned in zip(moves, example.learned, strict=True):
            after = recipe.compute_place(place, move)
            assert not learned or ways[after] == ways[place] - 1
            place = after


def test_learned_turns_are_the_labels(recipe: ModuleType):
    from tiny_model import Example, build_tensors, train_tokenizer

    words = train_tokenizer(["left down", "left", "down", "PF", "FG"] * 3, recipe.WORDS)
    messages = [
        {"role": "user", "content": "PF"},
        {"role": "assistant", "content": "left"},
        {"role": "user", "content": "FG"},
    ]
    tokens, labels = build_tensors([Example(messages, "down", (False, True)), Example(messages[:1], "left")], words)
    assert (
        words.decode(tokens[0]) == "<|user|>PF<|end|><|assistant|>left<|end|><|user|>FG<|end|><|assistant|>down<|end|>"
    )
    learned = [words.decode(row[row != -100]) for row in labels]
    assert learned == ["down<|end|>", "left<|end|>"] and torch.equal(labels[labels != -100], tokens[labels != -100])
    everything = build_tensors([Example(messages, "down", (True, True))], words)[1]
    assert words.decode(everything[everything != -100]) == "left<|end|>down<|end|>"
