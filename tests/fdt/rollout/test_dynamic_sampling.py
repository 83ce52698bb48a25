"""Flat groups leave the policy gradient, and other prompts replace them, the same on every rank and after a resume."""

import csv
import json
import math
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdt.data.collate import Collator
from fdt.errors import UserError
from fdt.rollout import advantages as crediting
from fdt.rollout.advantages import compute_advantages
from fdt.rollout.dynamic_sampling import DynamicSampling, SampledRollout, sample_rollout
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy, Recorded
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn, attach_hints
from objectives import FormatGate, GroupRelative, GroupWhitened, Score
from tests.helpers.batches import gradient, learner
from tests.helpers.runs import config, quick

TASKS = [Task(f"t{n}", ({"role": "user", "content": f"{n}?"},)) for n in range(8)]


def answered(
    tasks: list[Task], scores: tuple[float, ...] = (0.0, 1.0), flat: tuple[str, ...] = ("t0", "t2", "t4")
) -> list[Episode]:
    """Two answers to each task; those to flat tasks all score 0 and the first of them is criticised."""
    made = []
    for task in tasks:
        for n, score in enumerate(scores):
            said = Feedback(score=0.0, text="Wrong." if n == 0 else None) if task.key in flat else Feedback(score=score)
            made.append(
                Episode(f"{task.key}#{n}", task, (Turn("assistant", f"{n}", ids=(50 + n, 51), sampled=True),), (said,))
            )
    return made


def drawn(
    max_refills: int, chosen: list[int], place: RolloutPosition = RolloutPosition(0, 0)
) -> tuple[SampledRollout, list[tuple[list[str], int]]]:
    asked = []

    def ask(tasks: list[Task], seed: int) -> list[Episode]:
        asked.append(([task.key for task in tasks], seed))
        return answered(tasks)

    return sample_rollout(DynamicSampling(max_refills), place, TASKS, chosen, ask), asked


def test_flat_groups_are_dropped():
    found, asked = drawn(0, [0, 1, 2, 3])
    assert [e.task.key for e, kept in zip(found.episodes, found.kept, strict=True) if kept] == ["t1", "t1", "t3", "t3"]
    assert len(asked) == 1
    assert found.info == {
        "sampling/answers": 8,
        "sampling/groups": 4,
        "sampling/groups_zero_std": 2,
        "sampling/groups_refilled": 0,
        "sampling/groups_missing": 2,
        "reward/mean_sampled": 0.25,
    }


def test_other_prompts_stand_in_until_the_rollout_is_full():
    found, asked = drawn(9, [0, 1, 2, 3])
    good = {e.task.key for e, kept in zip(found.episodes, found.kept, strict=True) if kept}
    assert len(good) == 4 and {"t1", "t3"} < good and not good & {"t0", "t2", "t4"}
    assert (
        found.info["sampling/groups_missing"] == 0
        and found.info["sampling/groups_refilled"] == found.info["sampling/groups_zero_std"]
    )
    keys = [key for keys, _ in asked for key in keys]
    assert len(set(keys)) == len(keys), "a prompt was asked twice in one rollout"
    assert len({seed for _, seed in asked}) == len(asked) > 1
    assert drawn(9, [0, 1, 2, 3])[1] == asked, "the same place draws the same"
    assert drawn(9, [0, 1, 2, 3], RolloutPosition(0, 1))[1] != asked


def test_refills_are_bounded_by_rounds_and_by_prompts():
    _, once = drawn(1, [0, 1, 2, 4])
    assert [len(keys) for keys, _ in once] == [4, 3]
    everyone = [0, 2, 4, 1, 3, 5, 6, 7]
    found, asked = drawn(5, everyone)
    assert len(asked) == 1 and found.info["sampling/groups_missing"] == 3


def test_ranks_ask_equally_often_and_share_the_prompts(monkeypatch):
    """Two ranks in lock step: each rank's rows are handed to the other."""
    alone = {key for keys, _ in drawn(9, [0, 1, 2, 3])[1] for key in keys}
    barrier, held, local, found = threading.Barrier(2), [None, None], threading.local(), [None, None]

    def everyone(mine):
        held[local.rank] = mine
        barrier.wait(20)
        whole = list(held)
        barrier.wait(20)
        return whole

    monkeypatch.setattr(crediting, "gather_objects", everyone)
    monkeypatch.setattr(crediting, "get_rank", lambda: local.rank)

    def work(rank):
        local.rank = rank
        found[rank] = drawn(9, [0, 1, 2, 3], RolloutPosition(0, 0, rank, 2))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    (one, first), (two, second) = found
    assert len(first) == len(second) > 1
    assert {key for keys, _ in first + second for key in keys} == alone
    assert {seed for _, seed in first}.isdisjoint({seed for _, seed in second})
    assert one.info["sampling/answers"] == len(one.episodes) + len(two.episodes) and set(two.info.values()) == {0.0}
    kept = [e.task.key for part in (one, two) for e, kept in zip(part.episodes, part.kept, strict=True) if kept]
    assert len(set(kept)) == 4 and all(count == 2 for count in Counter(kept).values())


def test_flat_answers_are_in_no_mean():
    """Whitening over the rollout sees the kept answers alone."""
    found, _ = drawn(0, [0, 1, 2, 3])
    worth = OnPolicy().assign_advantages(found, RolloutPosition(0, 0), Recorded([], GroupWhitened()))
    assert worth[~found.kept].tolist() == [0] * 4
    alone = [e for e, kept in zip(found.episodes, found.kept, strict=True) if kept]
    assert torch.equal(worth[found.kept], compute_advantages(GroupWhitened(), alone))
    assert not torch.allclose(worth[found.kept], compute_advantages(GroupWhitened(), found.episodes)[found.kept])


def test_an_unknown_score_is_refused():
    rule = DynamicSampling(score="correct")
    with pytest.raises(UserError, match=r"data.source.dynamic.score.*'correct'"):
        rule.filter_groups(answered(TASKS))
    with pytest.raises(UserError, match="at least 0"):
        DynamicSampling(-1)


def test_a_missing_score_is_no_signal():
    kept = DynamicSampling().filter_groups(answered(TASKS[1:2], scores=(math.nan, 1.0, 0.0))).kept
    assert kept.tolist() == [False, True, True]
    assert DynamicSampling().filter_groups(answered(TASKS[1:2], scores=(math.nan, 1.0))).kept.tolist() == [False, False]


def test_a_threshold_as_in_srl():
    close, apart = answered(TASKS[1:2], scores=(0.71, 0.70, 0.70, 0.72)), answered(TASKS[3:4], scores=(0.2, 0.9))
    assert DynamicSampling(min_std=0.05).filter_groups(close + apart).kept.tolist() == [False] * 4 + [True] * 2


def test_the_reward_may_be_what_must_differ():
    """SRL: a group whose steps are all unlike the expert's still teaches the format: 0, 0, -1 deviate by .47."""
    gate = FormatGate(reward=Score("similarity"), invalid=-1.0)
    task, other = TASKS[1], TASKS[3]
    made = [
        Episode(
            f"{t.key}#{n}",
            t,
            (Turn("assistant", "x"),),
            (Feedback(name="similarity", score=near), Feedback(name="format", score=valid)),
        )
        for t, given in ((task, ((0.0, 1.0), (0.0, 1.0), (0.0, 0.0))), (other, ((0.7, 1.0), (0.7, 1.0), (0.72, 1.0))))
        for n, (near, valid) in enumerate(given)
    ]
    assert DynamicSampling(score="similarity").filter_groups(made).kept.tolist() == [False] * 3 + [True] * 3
    found = DynamicSampling(min_std=0.05, reward=gate).filter_groups(made)
    # Rewards [0, 0, -1] deviate by .4714 and [.7, .7, .72] by .0094.
    assert found.kept.tolist() == [True] * 3 + [False] * 3
    assert found.scores.tolist() == pytest.approx([0, 0, -1, 0.7, 0.7, 0.72])
    with pytest.raises(UserError, match="data.source.dynamic.reward"):
        DynamicSampling(reward=Score("correct")).filter_groups(made)


class Answers:
    """Answers every task with a right and a wrong one, without a model."""

    def __init__(self, tokenizer) -> None:
        self.collator = Collator(tokenizer, CritiqueHint())
        self.score_names = frozenset()

    def generate_episodes(self, tasks: list[Task], seed: int, num_generations: int, **_: None) -> list[Episode]:
        return answered(tasks)

    def grade(self, episodes: list[Episode]) -> list[Episode]:
        return episodes

    def rewrite(self, episodes: list[Episode], seed: int) -> list[Episode]:
        return episodes

    def add_group_hints(self, episodes: list[Episode]) -> list[Episode]:
        return episodes


def test_dropped_groups_have_no_gradient_and_no_share_in_the_denominator(tiny_model):
    made = learner(tiny_model)
    recorded = attach_hints(answered(TASKS[:4]))
    source = OnPolicy(prompts_per_rollout=4, num_generations=2)
    actor = Answers(made.policy.tokenizer)
    place = RolloutPosition(0, 0)
    (step,) = replace(source, dynamic=DynamicSampling()).make_batches(place, Recorded(recorded, GroupRelative()), actor)
    (whole,) = source.make_batches(place, Recorded(recorded, GroupRelative()), actor)
    keys = [step.episodes[row].task.key for row in step.rollouts.episode.tolist()]
    acted = {key for key, mark in zip(keys, step.rollouts.masks["sampled"].tolist(), strict=True) if mark}
    assert acted == {"t1", "t3"}
    taught = {key for key, mark in zip(keys, step.rollouts.masks["distilled"].tolist(), strict=True) if mark}
    assert taught == {"t0", "t2"}, "what was said about a flat group still teaches"
    dropped, kept = (
        made.objective.compute_totals(replace(b.rollouts, weights=made.objective.weigh(b.rollouts)))["policy"]
        for b in (step, whole)
    )
    assert kept == 2 * dropped > 0

    (flat,) = OnPolicy(4, 2, dynamic=DynamicSampling()).make_batches(
        place, Recorded(attach_hints(answered(TASKS[:6:2])), GroupRelative()), actor
    )
    silent = replace(flat, teacher=None, teacher_rows=None)
    silent = replace(
        silent,
        rollouts=replace(
            silent.rollouts, masks={name: mark & (name == "sampled") for name, mark in silent.rollouts.masks.items()}
        ),
    )
    assert not gradient(made, silent, 4096)[0].any()


def fit(folder: Path, steps: int, max_refills: int, *arguments: str, updates: int = 1, **settings):
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {
            "prompts_per_rollout": 2,
            "num_generations": 3,
            "updates_per_rollout": updates,
            "dynamic": {"max_refills": max_refills},
        },
    }
    path = config(
        folder,
        data__source=source,
        data__grader={"class_path": "tests.helpers.probes.FlatTasks"},
        data__heldout=0.2,
        trainer__max_steps=steps,
        **settings,
    )
    done = quick("fit", "-c", path, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    versions = sorted((folder / "run" / "metrics").iterdir())
    with (versions[-1] / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def test_a_run_counts_what_it_drew(tmp_path):
    rows = fit(tmp_path, 3, 5)
    assert all(float(row["train/sampling/groups"]) == 2 + float(row["train/sampling/groups_refilled"]) for row in rows)
    assert all(float(row["train/sampling/answers"]) == 3 * float(row["train/sampling/groups"]) for row in rows)
    assert any(float(row["train/sampling/groups_refilled"]) > 0 for row in rows)
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    assert len(told) == sum(float(row["train/sampling/answers"]) for row in rows)
    assert all(line["advantage"] == 0 for line in told if int(line["task"][1:]) % 2 == 0)
    ledger = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert sum(ledger["used"].values()) + sum(ledger["dropped"].values()) == ledger["rows"]


@pytest.mark.slow
def test_a_resumed_run_draws_the_same(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = fit(tmp_path / "a", 4, 2)
    fit(tmp_path / "b", 2, 2)
    again = fit(tmp_path / "b", 4, 2, "--ckpt_path", "last")
    for one, two in zip(whole[2:], again, strict=True):
        for name in ("train/loss", "train/sampling/groups", "train/reward/mean_sampled", "train/optim/grad_norm"):
            assert one[name] == two[name], name
