"""One run that has both: a curriculum that goes by scores, and a bank of skills that grows."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fdt.policy.hub import EMBEDDER, get_cache_root
from tests.helpers.ranks import start_ranks
from tests.helpers.runs import config, quick

pytestmark = pytest.mark.slow
QUESTIONS = {
    "sums": "What is {n} plus {n}?",
    "tales": "Tell me a tale of {n} foxes.",
    "maps": "How far is it from town {n} to the sea?",
}
ADMISSION = {"class_path": "fdt.rollout.curricula.Admission", "init_args": {"low": 0.4, "high": 0.6, "newest": 1.0}}


STAGES = {
    "class_path": "fdt.rollout.curricula.Stages",
    "init_args": {"stages": [{"datasets": [name], "rollouts": 2} for name in QUESTIONS]},
}
TEMPLATE = {"class_path": "feedback.skills.TemplateSkills"}


def write_rows(path: Path, first: int, count: int, is_alike: bool = False) -> Path:
    """Prompts of three data sets in turn; those of a data set in the same words where they are alike."""
    with path.open("w") as file:
        for n in range(first, first + count):
            name = list(QUESTIONS)[n % 3]
            prompt = QUESTIONS[name].format(n=3 if is_alike else n)
            file.write(json.dumps({"task": f"t{n}", "prompt": prompt, "reference": str(n), "dataset": name}) + "\n")
    return path


def build(folder: Path, kill: int | None = None, writer: dict[str, Any] = TEMPLATE, **changes: Any) -> Path:
    if not (get_cache_root() / EMBEDDER / "config.json").is_file():
        pytest.skip(f"{EMBEDDER} is not cached; `fdt model {EMBEDDER}` fetches it")
    folder.mkdir(exist_ok=True)
    if not (folder / "rows.jsonl").exists():
        write_rows(folder / "rows.jsonl", 0, 9)
    grow = {"writer": writer, "every_n_train_steps": 1, "max_new": 2, "below": 1.1}
    called = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 2}},
        {"class_path": "fdt.callbacks.GrowSkills", "init_args": grow},
    ]
    if kill is not None:
        called.append({"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}})
    called.append({"class_path": "tests.helpers.probes.KeepBank", "init_args": {"folder": str(folder / "banks")}})
    shown = {"embedder": {"class_path": "fdt.embeddings.SentenceModel"}, "threshold": 0.1, "top_k": 2}
    source = {"prompts_per_rollout": 2, "num_generations": 2, "curriculum": ADMISSION}
    settings: dict[str, Any] = {
        "data__source": {"class_path": "fdt.rollout.sources.OnPolicy", "init_args": source},
        "data__grader": {"class_path": "tests.helpers.probes.CriticisesBytes"},
        "data__heldout": str(write_rows(folder / "held.jsonl", 20, 3)),
        "data__skills": {"class_path": "feedback.skills.Shown", "init_args": shown},
        "model__lora": {"rank": 4, "dropout": 0.1},
        "model__optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        "trainer__callbacks": called,
        "trainer__max_steps": 9,
    }
    return config(folder, **settings | changes)


def fit(path: Path, *arguments: str, code: int = 0) -> str:
    done = quick("fit", "-c", path, *arguments)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def load_last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


def list_met(folder: Path) -> list[tuple[Any, ...]]:
    """Of each answer in order: its step, its task, what was recalled for it, what was said, what it scored."""
    rows = read(folder / "run" / "transcripts.jsonl")
    return [(r["step"], r["task"], r.get("skills"), r["prompt"], r["response"], r["score"]) for r in rows]


def test_a_run_killed_twice_meets_the_same_tasks_and_recalls_the_same_skills(tmp_path):
    """Killed after steps 5 and 7, with checkpoints at 4 and 6: each time the bank's file had grown beyond the
    checkpoint's, and the curriculum had observed more; both go on from what the checkpoint holds."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(build(whole))
    grown = []
    for kill, arguments in ((5, ()), (7, ("--ckpt_path", "last"))):
        fit(build(broken, kill), *arguments, code=-signal.SIGKILL)
        kept = json.loads(load_last(broken)["Experience"]["skills"])["skills"]
        file = json.loads((broken / "run" / "skills.json").read_text())["skills"]
        assert load_last(broken)["global_step"] == kill - 1 and len(file) > len(kept) > 0
        grown.append(len(kept))
    fit(build(broken), "--ckpt_path", "last")

    met = list_met(whole)
    assert list_met(broken) == met and [step for step, *_ in met] == [s for s in range(1, 10) for _ in range(4)]
    recalled = [skills for _, _, skills, *_ in met if skills]
    assert len(recalled) > 20 and len({one["id"] for skills in recalled for one in skills}) > 4
    for name in ("skills.json", "eval/last.jsonl"):
        assert (broken / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    ids = [skill["id"] for skill in json.loads((whole / "run" / "skills.json").read_text())["skills"]]
    assert len(set(ids)) == len(ids) > grown[1] > grown[0]

    expected, found = load_last(whole), load_last(broken)
    assert found["run"]["curriculum"] == expected["run"]["curriculum"]
    assert found["callbacks"]["GrowSkills"] == expected["callbacks"]["GrowSkills"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name


def test_two_ranks_have_one_bank_and_show_the_same_of_it(tmp_path):
    """Each step asks the same words twice, once on each rank; each call of the writer words another skill."""
    write_rows(tmp_path / "rows.jsonl", 0, 12, is_alike=True)
    writer = {"class_path": "tests.helpers.probes.WordsCalls", "init_args": {"folder": str(tmp_path / "asked")}}
    run = start_ranks(build(tmp_path, None, writer, data__source__init_args__curriculum=STAGES, trainer__max_steps=6))
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out[-3000:]
    final = json.loads((tmp_path / "run" / "skills.json").read_text())["skills"]
    assert (final[0]["origin"], final[0]["step"]) == ("validation", 0)
    assert [skill["step"] for skill in final if skill["origin"] == "training"] == [1, 2, 3, 4, 5, 6]
    assert [skill["id"] for skill in final] == [f"skill-{n:03d}" for n in range(1, len(final) + 1)]
    # One rank asks, once; it knows of the answers of both.
    assert {path.name for path in (tmp_path / "asked").iterdir()} == {f"0-{n}" for n in range(1, len(final) + 1)}
    assert [skill["principle"] for skill in final] == [f"Heed call {n} of rank 0." for n in range(1, len(final) + 1)]
    rows = read(tmp_path / "run" / "transcripts.jsonl")
    for step in range(1, 7):
        mine, theirs = (json.loads((tmp_path / "banks" / f"{step}-{rank}.json").read_text()) for rank in (0, 1))
        assert mine == theirs and mine["skills"] == final[: len(mine["skills"])]
        own = [row for row in rows if row["step"] == step]
        assert [row["order"][1] for row in own] == [0, 1, 0, 1] and len({row["prompt"] for row in own}) == 1
        assert own[0]["skills"] and all(row["skills"] == own[0]["skills"] for row in own)
        (grown,) = [skill for skill in final if (skill["origin"], skill["step"]) == ("training", step)]
        assert set(grown["tasks"]) == {row["task"] for row in own} and len(grown["tasks"]) == 2
