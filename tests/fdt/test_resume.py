"""``kill -9`` in mid-training, then ``--ckpt_path last``: the run ends with the weights of a run never broken."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers.runs import config, quick

pytestmark = pytest.mark.slow
EMA = {"class_path": "fdt.policy.teachers.EMA", "init_args": {"rate": 0.1}}
SETTINGS = {
    "model__lora": {"rank": 4, "dropout": 0.1},
    "model__teacher": EMA,
    "trainer__max_steps": 8,
    "model__log_kl_to_init": True,
}
MODES = {
    "on_policy": {},
    "replay": {
        "trainer__max_steps": -1,
        "trainer__max_epochs": 3,
        "data__rewriter": {
            "class_path": "feedback.rewriter.Rewriter",
            "init_args": {"grader": {"class_path": "feedback.graders.NumberMatch"}},
        },
    },
}


def every(steps: int, kill: int | None = None) -> list:
    kept = [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": steps}}]
    return kept + (
        [{"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}}] if kill is not None else []
    )


def train(folder: Path, mode: str, callbacks: list, *arguments: str):
    path = config(folder, mode, trainer__callbacks=callbacks, **SETTINGS | MODES[mode])
    return quick("fit", "-c", path, *arguments)


def last(folder: Path) -> dict:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


def logged(folder: Path, version: int) -> dict[int, dict[str, str]]:
    with (folder / "run" / "metrics" / f"version_{version}" / "metrics.csv").open() as file:
        return {int(row["step"]): row for row in csv.DictReader(file) if row.get("train/loss")}


@pytest.fixture(scope="module", params=list(MODES))
def unbroken(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(f"unbroken-{request.param}")
    run = train(folder, request.param, every(1))
    assert run.returncode == 0, run.stderr[-2000:]
    return request.param, folder


# Both modes have 2 steps an epoch: a checkpoint every 3 steps falls inside an epoch, every 2 on its last step.
@pytest.mark.parametrize("steps, kill", [(3, 5), (2, 4)], ids=["mid-epoch", "epoch-end"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(unbroken, tmp_path, steps, kill):
    mode, whole = unbroken
    shutil.copytree(whole / "model", tmp_path / "model")
    killed = train(tmp_path, mode, every(steps, kill))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert last(tmp_path)["global_step"] == kill - kill % steps
    base = (tmp_path / "run" / "eval" / "base.jsonl").read_text()
    resumed = train(tmp_path, mode, every(steps), "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr[-2000:]

    expected, found = last(whole), last(tmp_path)
    assert found["global_step"] == expected["global_step"] > kill
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name

    first, again = logged(whole, 0), logged(tmp_path, 1)
    assert again and set(again) == {step for step in first if step >= kill - kill % steps}
    for step, row in again.items():
        for name in ("train/loss", "train/optim/grad_norm", "train/optim/lr", "train/completions/mean_length"):
            assert row.get(name) == first[step].get(name), (step, name)
    assert (tmp_path / "run" / "eval" / "base.jsonl").read_text() == base
    mine, theirs = (json.loads((f / "run" / "accounting.json").read_text()) for f in (tmp_path, whole))
    assert {**mine, "file": ""} == {**theirs, "file": ""}
    steps_told = [json.loads(line)["step"] for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    whole_told = [json.loads(line)["step"] for line in (whole / "run" / "transcripts.jsonl").open()]
    assert steps_told == whole_told


@pytest.mark.parametrize("kills", [(2, 4), (2, 3)], ids=["epoch-ends", "epoch-end, then mid-epoch"])
def test_a_run_may_be_killed_more_than_once(unbroken, tmp_path, kills):
    """Lightning does not count the epoch after one that a run went on from at its last step."""
    mode, whole = unbroken
    shutil.copytree(whole / "model", tmp_path / "model")
    for kill in kills:
        killed = train(tmp_path, mode, every(1, kill), "--ckpt_path", "last")
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        assert last(tmp_path)["global_step"] == kill
    resumed = train(tmp_path, mode, every(1), "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, found = last(whole), last(tmp_path)
    assert found["loops"]["fit_loop"]["epoch_progress"] == expected["loops"]["fit_loop"]["epoch_progress"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name


def test_last_without_a_checkpoint_starts_afresh_and_says_so(tmp_path):
    path = config(tmp_path, "replay", trainer__max_steps=1)
    run = quick("fit", "-c", path, "--ckpt_path", "last")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "there is no last checkpoint" in run.stderr
    assert last(tmp_path)["global_step"] == 1


def test_a_run_that_max_steps_ended_goes_on_where_it_stood(tmp_path):
    """Extended in the middle of an epoch, it takes the steps that are left, and keeps its base."""
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    settings = {"trainer__max_steps": 2, "trainer__max_epochs": 1}
    assert quick("fit", "-c", config(tmp_path / "whole", "replay", **settings)).returncode == 0
    path = config(tmp_path / "cut", "replay", **settings | {"trainer__max_steps": 1})
    assert quick("fit", "-c", path).returncode == 0
    base = (tmp_path / "cut" / "run" / "eval" / "base.jsonl").read_text()
    run = quick("fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps", "2")
    assert run.returncode == 0, run.stderr[-2000:]
    expected, found = last(tmp_path / "whole"), last(tmp_path / "cut")
    assert found["global_step"] == expected["global_step"] == 2
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    assert quick("fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps", "2").returncode == 0
    assert (tmp_path / "cut" / "run" / "eval" / "base.jsonl").read_text() == base


def test_half_a_checkpoint_is_never_read(tmp_path):
    path = config(tmp_path, "replay", trainer__max_steps=1)
    assert quick("fit", "-c", path).returncode == 0
    folder = tmp_path / "run" / "checkpoints"
    (folder / ".last.ckpt.99.part").write_bytes((folder / "last.ckpt").read_bytes()[:100])
    run = quick("fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps", "2")
    assert run.returncode == 0, run.stderr[-2000:]
    assert last(tmp_path)["global_step"] == 2
