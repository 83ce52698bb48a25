"""Breadth in training and held out: worked groups, the alarm, and runs that measure it."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from fdt.environments.conventions import CONVENTIONS
from fdt.environments.multi_answer import MultiAnswer
from fdt.environments.multi_conventions import MultiConventions
from fdt.environments.reasoning import ReasoningGym
from fdt.evaluation.pass_at_k import PassAtK
from fdt.guards import DiversityCollapse
from fdt.metrics.diversity import compute_diversity
from fdt.rollout.advantages import compute_advantages
from feedback.graders import AnswerSet, NumberMatch, RegexMatch
from feedback.types import Episode, Feedback, Task, Turn
from objectives import GroupRelative, SetScore, score_set
from tests.helpers.runs import ROOT, config, quick
from tests.helpers.tiny import save_model


def answer(name: str, text: str, score: float, task: str = "t") -> Episode:
    asked = Task(task, ({"role": "user", "content": "?"},), "5")
    turns = (Turn("assistant", text, (1, 2), (-0.5, -1.0)),)
    return Episode(name, asked, turns, () if math.isnan(score) else (Feedback(score=score),))


def test_a_group_by_hand():
    group = [
        answer("a", "it is 5", 1.0),
        answer("b", "It is  5", 1.0),
        answer("c", "so 4", 0.0),
        answer("d", "4", 0.0),
        answer("e", "no idea", math.nan),
        answer("f", "7", 0.0),
    ]
    alone = answer("g", "7", 0.0, "other")
    found = compute_diversity([*group, alone, group[0]])  # an episode of two rows counts once
    assert found["unique_share"] == [5 / 6]
    assert found["solutions"] == [4.0]  # 5, 4, "no idea", 7
    assert found["wrong_unique"] == [2 / 3]  # 4, 4, 7; what nobody scored is not wrong
    assert found["distinct_2"] == [pytest.approx(4 / 6)]  # it-is is-5, twice | so-4 | no-idea
    right = compute_diversity([answer("a", "5", 1.0), answer("b", "5", 1.0)])
    assert right == {"unique_share": [0.5], "distinct_2": [], "solutions": [1.0], "wrong_unique": []}


@dataclass(frozen=True)
class Step:
    """The part of a step's metrics that this guard reads."""

    values: dict[str, float]


def test_the_guard_acts_when_wrong_answers_become_one():
    guard = DiversityCollapse(reference_steps=2)
    assert guard.measure(Step({"train/diversity/wrong_unique": 0.25}), "cpu") == 0.25
    assert math.isnan(guard.measure(Step({"train/diversity/unique_share": 0.25}), "cpu"))
    assert guard.check_bounds([1.0, 0.8]) is None and guard.check_bounds([1.0, 0.8, 0.45]) is None
    assert "0.440" in guard.check_bounds([1.0, 0.8, 0.44]) and guard.check_patience([1.0, 0.8, 0.4, 0.4]) is None
    assert guard.check_patience([1.0, 0.8, 0.4, 0.4, 0.4])
    other = DiversityCollapse(metric="train/diversity/solutions")
    assert other.measure(Step({"train/diversity/solutions": 3.0}), "cpu") == 3.0


@dataclass(frozen=True)
class Graded:
    """An actor whose answers are given."""

    episodes: list[Episode]

    def generate_episodes(self, tasks, seed, num_generations, counted):
        return self.episodes

    def grade(self, episodes):
        return episodes


def test_sampled_answers_by_hand():
    texts = [("it is 5", 1.0), ("5", 1.0), ("4", 0.0), ("so 4", math.nan)]
    group = [answer(f"t#{n}", text, score) for n, (text, score) in enumerate(texts)]
    made = PassAtK(samples=4, ks=(1, 2, 4), turns=(0,))
    (record,) = made([group[0].task], Graded(group))
    assert record["score"] == pytest.approx(2 / 3) and record["pass_at_1"] == pytest.approx(2 / 3)
    assert record["pass_at_2"] == 1.0 and record["pass_at_4"] is None  # three answers are scored
    assert record["pass_at_1_within_0"] == 0.0 and record["tokens"] == 2.0
    assert record["solutions"] == 2 and record["entropy"] == 0.75 and record["wrong_unique"] is None
    summary = made.summarise_records([record, record | {"score": None, "pass_at_1": None, "solutions": 4}])
    assert summary["score"] == pytest.approx(2 / 3) == summary["pass_at_1"] and summary["solutions"] == 3
    assert math.isnan(summary["pass_at_4"]) and next(iter(summary)) == "score"
    with pytest.raises(ValueError, match="ks"):
        PassAtK(samples=4, ks=(8,))


def test_what_rows_offer_reaches_the_advantages():
    bare = RegexMatch(pattern=r"\d+", critique="-", whole=True, name="bare")
    grader = AnswerSet([NumberMatch(), bare], answers=2)
    texts = [
        "<answer_1>5</answer_1>",
        "<answer_1>it is 5</answer_1><answer_2>6</answer_2>",
        "<answer_1>it is 5</answer_1>",
        "nothing",
    ]
    episodes = grader([answer(str(n), text, math.nan) for n, text in enumerate(texts)])
    reward = SetScore(draws=50)
    found = compute_advantages(GroupRelative(reward=reward), episodes, update=3)
    offers = torch.tensor([[[1.0, 1], [0, 0]], [[1, 0], [0, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    weights = reward.draw_trade_offs(0, 3, offers)
    assert torch.equal(found, GroupRelative()(score_set(offers, weights), torch.zeros(4).long()))
    assert found[0] > found[1] > found[2] > found[3]  # (1,1) = 1 > max(w1, w2) > w1 > 0
    assert not torch.equal(found, compute_advantages(GroupRelative(reward=reward), episodes, update=4))
    unjudged = [*episodes[:3], answer("x", "<answer_1>5</answer_1>", math.nan)]
    assert compute_advantages(GroupRelative(reward=reward), unjudged)[3] == 0.0


def test_several_answers_are_asked_for():
    made = MultiAnswer(task_source=ReasoningGym(dataset="chain_sum"), answers=2, tag="a")
    (task,) = made.sample_tasks("train", 1, 0)
    (plain,) = ReasoningGym(dataset="chain_sum").sample_tasks("train", 1, 0)
    assert task.messages[0]["content"].startswith(plain.messages[0]["content"]) and task.key == plain.key
    assert task.messages[0]["content"].endswith(
        "Give 2 different answers, each between tags of its own: <a_1>...</a_1>, <a_2>...</a_2>."
    )


def test_a_tolerant_user_scores_each_accepted_list_and_shows_some_of_them():
    world = MultiConventions(with_revision=True, accepted_count=2, demonstrated_count=2, coverage=1.0)
    (task,) = world.sample_tasks("train", 1, 0)
    digits, names = task.meta["digits"], world.list_accepted(task.meta["user"])
    assert task.meta["right"] == [CONVENTIONS[name](digits) for name in names] and len(set(names)) == 2
    assert task.reference == f"{names[0]}: {task.meta['right'][0]}"

    def react(world, text, seed=0):
        return world.start(task, seed).reply(Turn("assistant", text)).feedback[0]

    assert [react(world, f"so: {text}").score for text in (*task.meta["right"], digits)] == [1.0, 1.0, 0.0]
    shown = [react(world, "", seed).revision for seed in range(40)]
    assert {text: shown.count(text) > 10 for text in shown} == {
        f"{name}: {CONVENTIONS[name](digits)}": True for name in names
    }
    one = MultiConventions(with_revision=True, accepted_count=2, demonstrated_count=1)
    assert {react(one, "", seed).revision for seed in range(20)} == {task.reference}
    assert {react(world, "", seed).text for seed in range(40)} == {f"It should be {name}." for name in names}
    assert react(MultiConventions(), "").revision is None
    with pytest.raises(ValueError, match="demonstrated"):
        MultiConventions(accepted_count=1, demonstrated_count=2)


@pytest.mark.slow
def test_a_warm_start_on_diverse_demonstrations_trains(tmp_path):
    """The arms of `task/tolerant` that imitate, two steps each; with the schedule cut to one step of demonstrations."""
    small = {
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        },
        "data": {"limits": {"tasks": 64, "heldout": 4}, "source": {"init_args": {"prompts_per_rollout": 4}}},
    }
    arms = yaml.safe_load((ROOT / "configs" / "task" / "tolerant.yaml").read_text())["arms"]
    arms["warm"]["model"]["coefficients"]["imitate"]["init_args"]["hold"] = 1
    small |= {"arms": {name: arms[name] for name in ("both_shown", "warm")}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    done = quick("fit", "-c", "task/tolerant", "-c", tmp_path / "small.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    shown, warm = (steps(tmp_path / "run" / arm) for arm in ("both_shown", "warm"))
    assert all(float(step["train/loss/imitate"]) > 0 for step in shown)
    assert float(warm[0]["train/loss/imitate"]) > 0 and float(warm[0]["train/loss/policy"]) != 0
    # After its hold the coefficient is 0: the loss is the policy's alone.
    assert float(warm[1]["train/loss"]) == pytest.approx(float(warm[1]["train/loss/policy"]), abs=1e-6)


def steps(root: Path) -> list[dict[str, str]]:
    with (root / "metrics" / "version_0" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
def test_sets_train_two_steps(tmp_path):
    """`task/several` with `algorithm/vpo` as they are shipped, cut down to a tiny model."""
    save_model(tmp_path / "model")
    small = {
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {"base": str(tmp_path / "model"), "lora": {"rank": 4}},
        "data": {
            "limits": {"tasks": 4, "heldout": 2},
            "engine": {"init_args": {"max_new_tokens": 5}},
            "source": {"init_args": {"prompts_per_rollout": 2, "num_generations": 2}},
            # A random model writes no tag: any text is scored instead.
            "grader": {
                "init_args": {
                    "tag": "answer",
                    "rewards": [
                        {"class_path": "feedback.graders.RegexMatch", "init_args": {"pattern": ".", "critique": "-"}}
                    ]
                    * 2,
                }
            },
        },
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    done = quick("fit", "-c", "task/several", "-c", "algorithm/vpo", "-c", tmp_path / "small.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [float(step["train/reward/mean"]) for step in steps(tmp_path / "run")] == [0.0, 0.0]


@pytest.mark.slow
def test_a_run_logs_diversity_measures_it_and_is_warned(tmp_path):
    guard = {
        "class_path": "fdt.guards.DiversityCollapse",
        "init_args": {"metric": "train/diversity/unique_share", "share": 2.0, "reference_steps": 1, "patience": 1},
    }
    path = config(
        tmp_path,
        trainer__max_steps=2,
        trainer__callbacks=[{"class_path": "fdt.callbacks.Guards", "init_args": {"guards": [guard]}}],
        model__optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0}},
        data__evaluation={
            "class_path": "fdt.evaluation.pass_at_k.PassAtK",
            "init_args": {"samples": 3, "ks": [1, 3], "turns": [1]},
        },
    )
    done = quick("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-3000:]
    logged = steps(tmp_path / "run")
    assert len(logged) == 2 and all(0 < float(step["train/diversity/unique_share"]) <= 1 for step in logged)
    assert all(1 <= float(step["train/diversity/solutions"]) <= 2 for step in logged)
    assert "DiversityCollapse: train/diversity/unique_share is" in done.stderr  # what no share can double
    before, after = (
        [json.loads(line) for line in (tmp_path / "run" / "eval" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("base", "last")
    )
    assert [r["id"] for r in before] == [r["id"] for r in after] and all(len(r["samples"]) == 3 for r in after)
    assert all(r["pass_at_3"] >= r["pass_at_1"] == r["pass_at_1_within_1"] for r in before + after)
    # Nothing was learned, so the same draws give the same answers.
    same = [
        a["response"] == b["response"]
        for r, s in zip(before, after, strict=True)
        for a, b in zip(r["samples"], s["samples"], strict=True)
    ]
    assert all(same)
    counted = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert counted["episodes"] == {"episodes: done": 8}  # what was measured is not counted
