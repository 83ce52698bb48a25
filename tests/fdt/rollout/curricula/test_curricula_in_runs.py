"""Curricula in real runs: each kind by the command line, killed and resumed, and on two ranks."""

import csv
import json
import re
import signal
from pathlib import Path

import pytest
import torch

from fdt.rollout.curricula.transfer import TransferMatrix, write_matrix
from tests.helpers.paths import ROOT
from tests.helpers.ranks import start_ranks
from tests.helpers.runs import config, quick

KINDS = ("sums", "tales")
PACKAGE = "fdt.rollout.curricula"


def write_rows(path: Path, column: str = "dataset", answers: int = 0) -> Path:
    """Eight prompts, of two data sets in turn; some with recorded answers."""
    with path.open("w") as file:
        for n in range(8):
            row = {"task": f"t{n}", "prompt": f"{n} + 1?", "reference": str(n + 1), column: KINDS[n % 2]}
            for answer in range(answers):
                more = {"response": f"{n + 1 + answer}", "score": float(answer == 0)}
                file.write(json.dumps(row | more | {"id": f"r{n}-{answer}"}) + "\n")
            if not answers:
                file.write(json.dumps(row) + "\n")
    return path


def build(folder: Path, curriculum: dict | None, mode: str = "on_policy", kill: int | None = None, every=1, **changes):
    folder.mkdir(exist_ok=True)
    rows = write_rows(folder / "rows.jsonl", answers=2 if mode == "replay" else 0)
    called = [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}}]
    if kill is not None:
        called.append({"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}})
    source = {
        "on_policy": ("OnPolicy", {"prompts_per_rollout": 2, "num_generations": 2}),
        "replay": ("Replay", {"rows_per_step": 4}),
    }[mode]
    args = source[1] | {"curriculum": curriculum}
    settings = {
        "data__source": {"class_path": f"fdt.rollout.sources.{source[0]}", "init_args": args},
        "data__grader": {"class_path": "tests.helpers.probes.EvenBytes"},
        "data__heldout": str(rows),
        "data__evaluation_limit": 2,
        "model__terms": {"policy": {"class_path": "objectives.PolicyGradient"}},
        "model__optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        "trainer__callbacks": called,
        "trainer__max_steps": 6,
    }  # fmt: skip
    return config(folder, mode, **settings | changes)


def fit(path: Path, *arguments: str, code: int = 0):
    done = quick("fit", "-c", path, *arguments)
    assert done.returncode == code, done.stderr[-2000:]
    return done


def read_steps(folder: Path) -> list[list[str]]:
    """The prompts of each step, in the order of the answers."""
    found: dict[int, list[str]] = {}
    for line in (folder / "run" / "transcripts.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["step"], []).append(record["task"])
    return [found[step] for step in sorted(found)]


def list_kinds(steps: list[list[str]]) -> list[set[str]]:
    return [{KINDS[int(key[1:]) % 2] for key in step} for step in steps]


def name(kind: str, **args) -> dict:
    return {"class_path": f"{PACKAGE}.{kind}", "init_args": args}


def test_stages_by_the_command_line(tmp_path):
    stages = [{"datasets": ["tales"], "rollouts": 2}, {"datasets": ["sums"], "rollouts": 1}, {"datasets": list(KINDS)}]
    done = fit(build(tmp_path, name("Stages", stages=stages), trainer__max_steps=5))
    kinds = list_kinds(read_steps(tmp_path))
    assert kinds[:3] == [{"tales"}, {"tales"}, {"sums"}]
    assert "tales -> sums -> sums + tales" in done.stderr and "stage 3 of 3, 4 rollouts of sums + tales" in done.stderr
    # One prompt of each kind was held out of the first two: their scores stand apart.
    metrics = (tmp_path / "run" / "metrics" / "version_0" / "metrics.csv").read_text()
    for wanted in ("train/curriculum/stage", "train/curriculum/score/tales", "val/score/sums", "val/score/tales"):
        assert wanted in metrics.partition("\n")[0]
    held = [json.loads(line)["dataset"] for line in (tmp_path / "run" / "eval" / "last.jsonl").open()]
    assert held == ["sums", "tales"]


def test_the_order_of_a_matrix_by_the_command_line(tmp_path):
    effects = {"sums": {"tales": -0.2}, "tales": {"sums": 0.0}}
    write_matrix(tmp_path / "matrix.json", TransferMatrix(dict.fromkeys(KINDS, 0.5), effects), {})
    curriculum = name("ByTransfer", matrix=str(tmp_path / "matrix.json"), rollouts=1)
    path = build(tmp_path, curriculum, trainer__max_steps=2)
    fit(path)
    assert list_kinds(read_steps(tmp_path)) == [{"sums"}, {"tales"}]
    del effects["tales"]
    write_matrix(tmp_path / "matrix.json", TransferMatrix(dict.fromkeys(KINDS, 0.5), effects), {})
    done = fit(path, code=2)
    assert "no entry for training on 'tales', measured on 'sums'" in done.stderr and "Traceback" not in done.stderr


def test_replay_with_structured_rows_first(tmp_path):
    curriculum = name("StructuredFirst", structured=["tales"], open_ended=["sums"])
    fit(build(tmp_path, curriculum, "replay", trainer__max_steps=-1, trainer__max_epochs=1))
    steps = read_steps(tmp_path)
    assert list_kinds(steps) == [{"tales"}] * 2 + [{"sums"}] * 2 and sum(map(len, steps)) == 16


@pytest.mark.parametrize(
    "curriculum, mode, message",
    [
        (name("Interleaved", column="kind"), "on_policy", None),  # it needs no names
        (name("StructuredFirst", structured=["sums"], column="kind"), "on_policy", "a column 'kind' in every row"),
        (name("Admission"), "replay", "got 'Replay', expected fdt.rollout.sources.OnPolicy with max_staleness 0"),
    ],
    ids=["interleaved", "column", "replay"],
)  # fmt: skip
def test_what_does_not_fit_ends_in_one_message(tmp_path, curriculum, mode, message):
    path = build(tmp_path, curriculum, mode, trainer__max_steps=1)
    done = fit(path, code=0 if message is None else 2)
    assert message is None or (message in done.stderr and "Traceback" not in done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "curriculum",
    [
        name("Admission", low=0.45, high=0.55, newest=1.0),
        name("Stages", stages=[{"datasets": ["sums"], "rollouts": 4}, {"datasets": list(KINDS)}]),
    ],
    ids=["admission", "stages"],
)
def test_a_killed_run_draws_the_prompts_of_the_whole_one(tmp_path, curriculum):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(build(whole, curriculum))
    fit(build(broken, curriculum, kill=5, every=3), code=-signal.SIGKILL)
    fit(build(broken, curriculum, every=3), "--ckpt_path", "last")
    assert read_steps(broken) == read_steps(whole) and len(read_steps(whole)) == 6
    expected, found = (torch.load(f / "run" / "checkpoints" / "last.ckpt", weights_only=False) for f in (whole, broken))
    assert found["run"]["curriculum"] == expected["run"]["curriculum"]
    for key, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value), key


@pytest.mark.slow
def test_stages_of_prolonged_training_ask_for_more_and_longer_answers(tmp_path):
    """As ProRL goes on (arXiv 2505.24864): more answers to a prompt, then longer ones, and a reference that is reset
    where held-out quality stalls. A killed run goes on in the stage that it was in."""
    more, longer = {"num_generations": 3}, {"num_generations": 3, "max_new_tokens": 12}
    stages = [{"datasets": list(KINDS), "rollouts": 2} | sampling for sampling in ({}, more, longer)]
    reset = {"plateau": {"patience": 2, "cooldown": 3, "min_delta": 9.0}, "optimizer": True}  # nothing is a gain
    settings = {
        "model__terms": {
            "policy": {"class_path": "objectives.PolicyGradient"},
            "anchor": {"class_path": "objectives.ReferenceKL", "init_args": {"estimator": "objectives.k2"}},
        },
        "trainer__val_check_interval": 1,
        "trainer__check_val_every_n_epoch": None,
    }
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder, every, kill in ((whole, 1, None), (broken, 3, 5), (broken, 3, None)):
        called = [
            {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}},
            {"class_path": "fdt.callbacks.ResetReference", "init_args": reset},
            *([{"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}}] if kill else []),
        ]
        resumed = ["--ckpt_path", "last"] if folder == broken and not kill else []
        path = build(folder, name("Stages", stages=stages), trainer__callbacks=called, **settings)
        fit(path, *resumed, code=-signal.SIGKILL if kill else 0)
    steps = read_steps(whole)
    assert [len(step) for step in steps] == [4, 4, 6, 6, 6, 6] and read_steps(broken) == steps
    with (whole / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    lengths = [float(row["train/completions/mean_length"]) for row in rows]
    assert max(lengths[:4]) <= 6 < min(lengths[4:]) and max(lengths) <= 12
    # Measured are all stages by the engine's own length.
    assert max(record["tokens"] for record in map(json.loads, (whole / "run" / "eval" / "last.jsonl").open())) <= 6
    assert [n for n, row in enumerate(rows) if float(row["train/loss/anchor"]) == 0.0] == [0, 2]  # the start, a reset
    expected, found = (torch.load(f / "run" / "checkpoints" / "last.ckpt", weights_only=False) for f in (whole, broken))
    for key, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value), key


@pytest.mark.slow
def test_two_ranks_agree_about_what_comes_next(tmp_path):
    path = build(tmp_path, name("Admission", low=0.45, high=0.55), trainer__max_steps=8)
    run = start_ranks(path)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out[-3000:]
    steps = read_steps(tmp_path)
    # Each step holds two prompts, one of each rank, with two answers each: ranks that disagreed would share some.
    assert [len(step) for step in steps] == [4] * 8
    assert all(len(set(step)) == 2 for step in steps)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)["run"]["curriculum"]
    assert set(state["drawn"]) == {key for step in steps for key in step}
    last = {key: number for number, step in enumerate(steps) for key in step}
    assert state["drawn"] == last


def test_the_curriculum_of_the_page_runs(tmp_path):
    page = (ROOT / "docs" / "curricula.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(# my_curriculum\.py.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_curriculum.py").write_text(source)
    path = build(tmp_path, {"class_path": "my_curriculum.ShortFirst"}, trainer__max_steps=1)
    done = quick("fit", "-c", path, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_steps(tmp_path) == [["t0", "t0", "t1", "t1"]]
