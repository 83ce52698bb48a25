"""Credits of steps end to end: what turns were worth, by hand, and runs of two steps that train on it."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from fdt.data.collate import Collator
from fdt.environments.frozenlake import FrozenLake, compute_distances
from fdt.rollout.advantages import compute_advantages
from feedback.graders import MetaTags
from feedback.types import Episode, Feedback, Task, Turn
from feedback.writers import write_episodes
from objectives import (
    DiscountedTurns,
    EpisodeReturn,
    FormatGate,
    GroupRelative,
    MetaReasoning,
    NonzeroAdvantage,
    PolicyGradient,
    TurnLimit,
)
from tests.helpers.classifiers import save_classifier
from tests.helpers.runs import ROOT, config, quick, without_terms
from tests.helpers.servers import Answer, Call, Server, completion
from tests.helpers.tiny import save_model, tokenizer

WORDS = tokenizer()
LAKE = ["SFFF", "FHFH", "FFFH", "HFFG"]


def steps_of(folder: Path) -> list[dict[str, str]]:
    with max((folder / "metrics").iterdir()).joinpath("metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def told(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "transcripts.jsonl").open()]


def overlay(name: str) -> Path:
    return ROOT / "configs" / f"{name}.yaml"


# DAPO for software agents


def trajectory(number: int, score: float, turns: int) -> Episode:
    """So many turns of one token each."""
    spoken = [turn for _ in range(turns) for turn in (Turn("assistant", "a", (65,), (-1.0,), True), Turn("user", "b"))]
    return Episode(
        f"e{number}", Task("t", ({"role": "user", "content": "?"},)), tuple(spoken), (Feedback(score=score),)
    )


def group(*given: tuple[float, int]) -> list[Episode]:
    return [trajectory(number, score, turns) for number, (score, turns) in enumerate(given)]


def test_turns_are_penalised_and_long_trajectories_stay():
    """(pass, 20), (pass, 40), (fail, 9), (fail, 40) under (10, 40): R = [.6667, 0, 0, -1], and
    A = [1.260, .140, .140, -1.540]."""
    episodes = group((1, 20), (1, 40), (0, 9), (0, 40))
    credit = GroupRelative(reward=TurnLimit(10, 40))
    worth = compute_advantages(credit, episodes)
    assert worth.tolist() == pytest.approx([1.260, 0.140, 0.140, -1.540], abs=5e-4)
    batch = Collator(WORDS)(episodes, worth)
    assert batch.rollouts.lengths.tolist() == [20, 40, 9, 40] and batch.rollouts.masks["sampled"].all()
    assert batch.rollouts.advantages.tolist() == pytest.approx([1.260] * 20 + [0.140] * 49 + [-1.540] * 40, abs=5e-4)
    # Nobody succeeded: turns alone tell the three apart.
    failed = compute_advantages(credit, group((0, 12), (0, 25), (0, 40)))
    assert failed.tolist() == pytest.approx([1.195, 0.058, -1.253], abs=5e-4)


def test_a_trajectory_without_advantage_leaves_the_denominator():
    """R = [1, .5, 0]: A = [1.2247, 0, -1.2247]; the denominator counts 9 + 9 action tokens, not the 25 between."""
    episodes = group((1, 9), (1, 25), (0, 9))
    batch = Collator(WORDS)(episodes, compute_advantages(GroupRelative(reward=TurnLimit(10, 40)), episodes))
    rollouts = batch.rollouts
    assert rollouts.advantages.tolist() == pytest.approx([1.2247] * 9 + [0.0] * 25 + [-1.2247] * 9, abs=5e-4)
    for gate, counted in ((NonzeroAdvantage(), 18), (None, 43)):
        term = PolicyGradient() if gate is None else PolicyGradient(gate=gate)
        weights = term.weigh(rollouts)
        assert float(term.compute_denominator(rollouts, weights)) == counted
        assert weights.tolist() == [1.0] * 9 + [float(gate is None)] * 25 + [1.0] * 9


@pytest.mark.slow
def test_a_run_keeps_what_ran_out_of_turns(tmp_path):
    """Four episodes say stop at their first, second, third turn, and never. Under (1, 3): R = [1, .5, 0, -1], mean
    .125, deviation .7395, so A = [1.1832, .5071, -.1690, -1.5213]."""
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 1, "num_generations": 4},
    }
    recite = {"class_path": "tests.helpers.reciting.Recite", "init_args": {"texts": ["stop", "go", "on", "no"]}}
    path = without_terms(
        config(
            tmp_path,
            trainer__max_steps=2,
            data__source=source,
            data__engine=recite,
            data__limits={"tasks": 2, "heldout": 1, "max_turns": 3},
            data__environment={"class_path": "tests.helpers.stopping.Stopping"},
            data__max_tokens=2048,
        ),
        "file",
        "heldout",
        "grader",
    )
    turns = {"class_path": "objectives.TurnLimit", "init_args": {"threshold": 1, "limit": 3}}
    mine = tmp_path / "limit.yaml"
    mine.write_text(
        yaml.safe_dump({"data": {"credit": {"class_path": "objectives.GroupRelative", "init_args": {"reward": turns}}}})
    )
    done = quick("fit", "-c", path, "-c", overlay("algorithm/dapo_swe"), "-c", mine)
    assert done.returncode == 0, done.stderr[-2000:]
    # The n-th prompt of a round hears the n-th text: 4 play, then 3, then 2; the last one hears "go" and is cut.
    records = told(tmp_path / "run")[:4]
    assert [record["advantage"] for record in records] == pytest.approx([1.1832, 0.5071, -0.1690, -1.5213], abs=5e-4)
    assert [record["score"] for record in records] == [1.0, 1.0, 1.0, 0.0]
    steps = steps_of(tmp_path / "run")
    assert [float(row["train/completions/turns"]) for row in steps] == [2.25] * 2  # 1, 2, 3 and 3 turns
    assert [float(row["train/completions/clipped_ratio"]) for row in steps] == [0.25] * 2
    account = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert account["episodes"] == {"episodes: done": 6, "episodes: turn limit": 2} and account["used"] == {
        "prompt: score": 2
    }


# RLVMR


def tagged(kind: str, move: str) -> str:
    return f"<{kind}>so</{kind}><action>{move}</action>"


def walk(*moves: tuple[str, str]) -> Episode:
    """An episode on the lake, played by its own session."""
    pytest.importorskip("gymnasium")
    rows = "\n".join(LAKE)
    task = Task("lake", ({"role": "user", "content": "Go."},), meta={"map": rows})
    session = FrozenLake().start(task, 0)
    turns, feedback = [], []
    for kind, move in moves:
        turns.append(Turn("assistant", tagged(kind, move)))
        reply = session.reply(turns[-1])
        turns += [Turn(message["role"], message["content"]) for message in reply.messages]
        feedback += reply.feedback
    if not reply.done:
        feedback += session.truncate()
    session.close()
    return Episode(f"{len(moves)}", task, tuple(turns), tuple(feedback))


WAY = ["down", "down", "right", "down", "right", "right"]


def test_tags_on_the_lake_from_words_to_advantages():
    won = walk(("planning", "up"), ("reflection", "down"), *(("explore", move) for move in WAY[1:]))
    lost = walk(("planning", "left"), ("reflection", "left"), ("explore", "right"), ("explore", "down"))
    first, second = MetaTags()([won, lost])
    assert (first.score, second.score) == (1.0, 0.0)
    paid = [[item.score for item in episode.feedback if item.name == "meta"] for episode in (first, second)]
    # Planning pays for the success. "Up" led against the edge, and going down is another action: reflection pays; going
    # left again is none. Exploring is new wherever the map has not been seen before.
    assert paid == [[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1]]
    found = compute_advantages(MetaReasoning(), [first, second])
    # R = [1, 0]: +-.7071 (sample deviation). Planning [1, 0] and reflection [1, 0]: +-.7071 each. Exploring: all
    # equal, 0.
    half = 0.7071 / 2
    assert found.tolist() == [
        pytest.approx([2 * half] * 2 + [half] * 5, abs=1e-4),
        pytest.approx([-2 * half] * 2 + [-half] * 2 + [0.0] * 3, abs=1e-4),
    ]


def lake_config(folder: Path, **data) -> Path:
    """The shipped task cut down to a tiny model, with its tags."""
    content = yaml.safe_load(overlay("task/frozenlake").read_text())
    content["trainer"] |= {
        "default_root_dir": str(folder / "run"),
        "max_steps": 2,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    content["model"] |= {"base": str(folder / "model"), "lora": {"rank": 4}}
    del content["model"]["terms"], content["data"]["credit"]
    content["data"] |= {
        "limits": {"tasks": 4, "heldout": 2, "max_turns": 3, "max_context": 1800},
        "source": {
            "class_path": "fdt.rollout.sources.OnPolicy",
            "init_args": {"prompts_per_rollout": 2, "num_generations": 2},
        },
    } | data
    path = folder / "lake.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def tagged_file(path: Path) -> Path:
    """Six lakes, each crossed by an expert that names its kind of reasoning, and one that fell in."""
    episodes = []
    for task in FrozenLake(size=3).sample_tasks("train", 6, 0):
        rows = task.meta["map"].split("\n")
        ways, place, turns = compute_distances(rows), 0, []
        while ways[place]:
            row, column = divmod(place, 3)
            near = {
                "up": (row - 1, column),
                "down": (row + 1, column),
                "left": (row, column - 1),
                "right": (row, column + 1),
            }
            move, place = next(
                (move, r * 3 + c)
                for move, (r, c) in near.items()
                if 0 <= r < 3 and 0 <= c < 3 and ways.get(r * 3 + c) == ways[place] - 1
            )
            turns += [Turn("assistant", tagged("planning", move)), Turn("user", "FFF")]
        episodes.append(Episode(task.key, task, tuple(turns), (Feedback("environment", None, "success", 1.0),)))
    fallen = FrozenLake(size=3).sample_tasks("train", 7, 0)[6]
    episodes.append(
        Episode("fallen", fallen, (Turn("assistant", "down"),), (Feedback("environment", None, "success", 0.0),))
    )
    write_episodes(path, episodes)
    return path


@pytest.mark.slow
def test_rlvmr_after_a_cold_start_on_tagged_trajectories(tmp_path):
    """Two steps of imitation, the model exported, two steps of RLVMR on what it became."""
    pytest.importorskip("gymnasium")
    save_model(tmp_path / "model")
    (tmp_path / "cold").mkdir()
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps({"prompt": "?"}) + "\n")
    lake = {"environment": {"class_path": "fdt.environments.frozenlake.FrozenLake", "init_args": {"size": 3}}}
    path = lake_config(tmp_path, file=str(tagged_file(tmp_path / "tagged.jsonl")), heldout=0.2, **lake)
    done = quick("fit", "-c", path, "-c", overlay("task/frozenlake_tags"), "-c", overlay("algorithm/cold_start"))
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2 and float(steps[1]["train/loss"]) < float(steps[0]["train/loss"])
    assert float(steps[0]["train/loss"]) == pytest.approx(float(steps[0]["train/loss/imitate"]))
    account = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert account["used"]["score"] >= 4, account
    quiet = [record for record in told(tmp_path / "run") if record["score"] == 0]
    assert all(record["advantage"] == 0 for record in quiet)
    done = quick("export", tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "cold" / "model", "--merged-only")
    assert done.returncode == 0, done.stderr[-2000:]

    texts = [tagged("planning", "down"), tagged("explore", "left"), tagged("reflection", "right"), "no tags"]
    recite = {"class_path": "tests.helpers.reciting.Recite", "init_args": {"texts": texts}}
    second = lake_config(tmp_path, **lake)
    engine = tmp_path / "recite.yaml"
    engine.write_text(yaml.safe_dump({"data": {"engine": recite}}))
    done = quick(
        "fit",
        "-c",
        second,
        "-c",
        overlay("task/frozenlake_tags"),
        "-c",
        overlay("algorithm/rlvmr"),
        "-c",
        engine,
        f"--model.base={tmp_path / 'cold' / 'model' / 'merged'}",
        f"--trainer.default_root_dir={tmp_path / 'second'}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(tmp_path / "second")
    assert len(steps) == 2 and all(math.isfinite(float(row["train/loss"])) for row in steps)
    assert all(float(row["train/optim/grad_norm"]) > 0 for row in steps)
    records = told(tmp_path / "second")
    worth = [record["advantage"] for record in records]
    assert len(set(worth)) > 1 and all(math.isfinite(value) for value in worth)


# SRL


def srl_rows(folder: Path) -> Path:
    """Four expert solutions of three steps, cut into steps."""
    experts = folder / "experts.jsonl"
    solution = "1. so\n2. add them\n3. it is"
    experts.write_text(
        "".join(json.dumps({"id": f"p{n}", "prompt": f"{n} + 1?", "response": solution}) + "\n" for n in range(4))
    )
    done = quick("data", "steps", experts, folder / "steps.jsonl")
    assert done.returncode == 0, done.stderr
    return folder / "steps.jsonl"


@pytest.mark.slow
def test_srl_and_then_final_scores_from_where_it_ended(tmp_path):
    """Every final score is 0 and the steps' similarities differ: SRL has a gradient; RLVR takes over its model."""
    think = "<think>hm</think>"
    recite = {
        "class_path": "tests.helpers.reciting.Recite",
        "init_args": {"texts": [f"{think}so", f"{think}add", "so", f"{think}no"]},
    }
    held = {"data__heldout": 0.3, "data__evaluation_limit": 1, "trainer__max_steps": 2}
    path = without_terms(
        config(tmp_path, data__file=str(srl_rows(tmp_path)), data__engine=recite, **held), "grader", "source"
    )
    small = tmp_path / "small.yaml"
    small.write_text(
        yaml.safe_dump({"data": {"source": {"init_args": {"prompts_per_rollout": 2, "num_generations": 4}}}})
    )
    done = quick("fit", "-c", path, "-c", overlay("algorithm/srl"), "-c", small)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2 and all(float(row["train/optim/grad_norm"]) > 0 for row in steps)
    by_task = {}
    for record in told(tmp_path / "run"):
        by_task.setdefault((record["step"], record["task"]), []).append(record)
    for (_, task), records in by_task.items():
        # To "so": 1, 0, -1 (no thought) and 0: mean 0, deviation .7071. To "add them": 0, 2 * 1 / 3, -1, 0: mean
        # -.0833, deviation .5951.
        expected = [1.4142, 0, -1.4142, 0] if task.endswith("step-1") else [0.1400, 1.2602, -1.5403, 0.1400]
        assert [record["advantage"] for record in records] == pytest.approx(expected, abs=2e-3)
    model = tmp_path / "stage" / "merged"
    done = quick("export", tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "stage", "--merged-only")
    assert done.returncode == 0, done.stderr[-2000:]
    rlvr = config(
        tmp_path, data__engine={"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": 6}}, **held
    )
    done = quick("fit", "-c", rlvr, f"--model.base={model}", f"--trainer.default_root_dir={tmp_path / 'second'}")
    assert done.returncode == 0, done.stderr[-2000:]
    start = torch.load(tmp_path / "second" / "checkpoints" / "last.ckpt", weights_only=False)
    assert start["global_step"] == 2 and start["fdt"]["model"] == str(model)


# Process rewards


def retry_config(folder: Path, grader: dict, reward: str, texts: list[str]) -> Path:
    """Attempt, critique, attempt again, judged by this grader; what trains is the step score `reward`."""
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 2, "num_generations": 2},
    }
    retry = {
        "class_path": "fdt.environments.retry.RetryWithCritique",
        "init_args": {"grader": {"class_path": "feedback.graders.NumberMatch"}, "max_attempts": 2},
    }
    credit = {"class_path": "objectives.DiscountedTurns", "init_args": {"turn_score": reward, "scale": "none"}}
    recite = {"class_path": "tests.helpers.reciting.Recite", "init_args": {"texts": texts}}
    return config(
        folder,
        data__source=source,
        data__environment=retry,
        data__limits={"max_turns": 2},
        data__engine=recite,
        data__grader=grader,
        data__credit=credit,
        data__hint=None,
        trainer__max_steps=2,
        data__max_tokens=2048,
        model__terms={"policy": {"class_path": "objectives.PolicyGradient"}},
    )


@pytest.mark.slow
def test_a_local_process_reward_is_the_credit_of_turns(tmp_path):
    from fdt.reward_models import ProcessReward

    judge = str(save_classifier(tmp_path / "prm", "token", 2))
    texts = ["-7", "it is\n\n-8 then"]
    grader = {"class_path": "fdt.reward_models.ProcessReward", "init_args": {"model": judge}}
    done = quick("fit", "-c", retry_config(tmp_path, grader, "process", texts))
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2 and all(
        float(row["train/completions/turns"]) == 2 and float(row["train/optim/grad_norm"]) > 0 for row in steps
    )
    records = [record for record in told(tmp_path / "run") if record["step"] == 1]
    # The grader's own numbers for such an episode: returns are what is left of them, centred turn by turn.
    by_task = {}
    for record in records:
        by_task.setdefault(record["task"], []).append(record)
    for task, pair in by_task.items():
        prompt = ({"role": "user", "content": f"{task[1:]} + 1?"},)
        episodes = [
            Episode(
                record["id"],
                Task(task, prompt),
                tuple(Turn(turn["role"], turn["text"]) for turn in record["conversation"]),
            )
            for record in pair
        ]
        judged = ProcessReward(judge)(episodes)
        first = [sum(item.score for item in episode.feedback if item.name == "process") for episode in judged]
        mean = sum(first) / 2
        assert abs(first[0] - mean) > 1e-4
        assert [record["advantage"] for record in pair] == pytest.approx([value - mean for value in first], abs=1e-4)


def progress(call: Call) -> Answer:
    """Whoever said -7 made progress, whoever said -8 did not."""
    good = "\n-7\n" in call.prompt  # not the name of a fence, which is drawn
    return completion(json.dumps({"analysis": "", "progress": 1 if good else -1, "useful": False, "hint": ""}))


@pytest.mark.slow
def test_a_judge_behind_a_server_is_the_credit_of_turns(tmp_path):
    with Server(progress) as server:
        gateway = {"model": "m", "base_url": server.url, "cache": str(tmp_path / "calls"), "timeout": 60.0}
        grader = {"class_path": "feedback.graders.NextStateJudge", "init_args": {"gateway": gateway, "samples": 1}}
        done = quick("fit", "-c", retry_config(tmp_path, grader, "next_state", ["-7", "-8"]))
        assert done.returncode == 0, done.stderr[-2000:]
        assert server.calls
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2 and all(float(row["train/optim/grad_norm"]) > 0 for row in steps)
    # The first turn of -7 scored 1, of -8 0; nothing follows the second turn, so it is worth nothing.
    for record in told(tmp_path / "run"):
        assert record["advantage"] == {"-7": 0.5, "-8": -0.5}[record["response"]]
        if "tokens" in record:
            assert [token["advantage"] for token in record["tokens"]] == pytest.approx(
                [record["advantage"]] * 3 + [0.0] * 3
            )


def test_step_scores_of_a_critic_are_returns_of_episodes():
    """Two turns .2 and .4, one of .9: returns .6 and .9, whose mean is .75."""
    turns = tuple(Turn("assistant", "a") if n % 2 == 0 else Turn("user", "b") for n in range(3))
    task = Task("t", ({"role": "user", "content": "?"},))
    two = tuple(Feedback(name="process", score=score, turn=step) for step, score in enumerate((0.2, 0.4)))
    one = (Feedback(name="process", score=0.9, turn=0),)
    group = [Episode("a", task, turns, two), Episode("b", task, turns[:1], one)]
    found = compute_advantages(GroupRelative("none", reward=EpisodeReturn("process")), group)
    assert found.tolist() == pytest.approx([-0.15, 0.15])
    each = compute_advantages(DiscountedTurns(turn_score="process", scale="none"), group)
    # First turns: .6 and .9; the second turn has nobody beside it.
    assert each.tolist() == [pytest.approx([-0.15, 0.0]), pytest.approx([0.15, 0.0])]


def test_the_format_decides_before_the_similarity():
    """SRL's group of [.8, .6, -1, .7, .75, .65, .5, .9]: mean .4875, deviation .5738."""
    given = [0.8, 0.6, 0.4, 0.7, 0.75, 0.65, 0.5, 0.9]
    task = Task("t", ({"role": "user", "content": "?"},))
    group = [
        Episode(
            f"{n}",
            task,
            (Turn("assistant", "a"),),
            (Feedback(name="similarity", score=near), Feedback(name="format", score=float(n != 2))),
        )
        for n, near in enumerate(given)
    ]
    found = compute_advantages(GroupRelative(reward=FormatGate(invalid=-1.0)), group)
    rewards = [0.8, 0.6, -1, 0.7, 0.75, 0.65, 0.5, 0.9]
    assert found.tolist() == pytest.approx([(value - 0.4875) / 0.5738 for value in rewards], abs=1e-3)
