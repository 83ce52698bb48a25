"""The benchmark of reasoning budgets: what its policy learns, and its table, by hand."""

from __future__ import annotations

import importlib
import random
import re
from types import ModuleType

import pytest

from fdt.engines import FORCED
from feedback.types import Episode, Task, Turn
from tests.helpers.paths import ROOT


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("budgets")


def test_training_conversations_find_the_answer(bench: ModuleType):
    chance = random.Random(0)
    tasks = bench.LIBRARY.sample_tasks("heldout", 40, 0)
    trained = {task.key for task in bench.LIBRARY.sample_tasks("train", 10_000, 0)}
    assert len(tasks) > 20 and not trained & {task.key for task in tasks}
    for task in tasks:
        example = bench.build_conversation(chance, task)
        session = bench.LIBRARY.start(task, 0)
        turns = [message["content"] for message in example.messages if message["role"] == "assistant"]
        assert len(turns) == len(task.meta["path"]) and len(example.learned) == len(turns) + 1
        for text in turns:
            assert not session.reply(Turn("assistant", text)).done
        ended = session.reply(Turn("assistant", example.answer))
        assert ended.done and ended.feedback[-1].score == 1.0


def test_thoughts_are_mostly_short_and_now_and_then_long(bench: ModuleType):
    chance = random.Random(0)
    lengths = {word: [] for word in bench.THOUGHTS}
    for _ in range(2000):
        word, rest = re.fullmatch(r"<think>(\w+)(.*) so X</think>", bench.write_thought(chance, "X")).groups()
        lengths[word].append(1 + rest.count(word))
    for word, (share, mean) in bench.THOUGHTS.items():
        # Geometric: the deviation is about the mean, so of 600 the mean's own is below a twentieth of it.
        assert len(lengths[word]) / 2000 == pytest.approx(share, abs=0.04)
        assert sum(lengths[word]) / len(lengths[word]) == pytest.approx(mean, rel=0.15)


def test_a_thought_closed_by_force_is_one_however_long_its_delimiter(bench: ModuleType):
    task = Task("q", ({"role": "user", "content": "?"},))
    turns = (
        Turn("assistant", "a", (1, 2, 3), (-0.1, FORCED, FORCED)),
        Turn("user", "b"),
        Turn("assistant", "c", (1,), (-0.1,)),
        Turn("assistant", "d", (1, 2), (FORCED, -1.0)),
    )
    assert bench.count_forced(Episode("e", task, turns, (), end_reason="done")) == 2


def test_the_table_pairs_questions(bench: ModuleType):
    without = bench.Row(128, False, [0.0, 0.5], [2.0, 4.0], [1.0, 0.5], [0.0, 0.5], [0.0, 0.0])
    with_ = bench.Row(128, True, [0.5, 1.0], [3.0, 5.0], [0.0, 0.0], [1.0, 1.0], [1.0, 2.0])
    lines = bench.format_table([with_, without]).splitlines()
    assert lines[2].startswith(
        "| 128 | each turn | 75.0 [50.0, 100.0] | 100.0 [100.0, 100.0] | 0.0 [0.0, 0.0] | 4.00 ["
    )
    assert lines[3].startswith("| 128 | none | 25.0 [0.0, 50.0] |")
    # Question by question: +0.5 and +0.5 rightly answered; -1 and -0.5 out of context.
    assert lines[-1] == "| 128 | +50.0 [+50.0, +50.0] | -75.0 [-100.0, -50.0] |"
