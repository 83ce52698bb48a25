"""A checkpoint leads to its run, whose config then counts."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from fdt.cli.run.runs import add_run_config, find_checkpoint
from fdt.errors import UserError
from tests.helpers.runs import config, quick


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "run" / "checkpoints" / "last.ckpt", "w") as file:
        file.writestr("a", "b")
    (tmp_path / "run" / "config.yaml").write_text("model: {}\n")
    return tmp_path / "run"


def test_a_run_is_its_last_checkpoint(run: Path):
    last = run / "checkpoints" / "last.ckpt"
    expected = ["validate", "-c", str(run / "config.yaml"), "-c", "mine.yaml", f"--ckpt_path={last}"]
    for given in (run, last):
        assert add_run_config(["validate", "-c", "mine.yaml", "--ckpt_path", str(given)]) == expected


def test_fit_goes_on_with_the_config_that_it_is_given(run: Path):
    last = run / "checkpoints" / "last.ckpt"
    own = ["fit", "-c", "mine.yaml", f"--ckpt_path={last}"]
    assert add_run_config(own) == own
    assert add_run_config(["fit", f"--ckpt_path={run}"]) == ["fit", "-c", str(run / "config.yaml"), own[-1]]


def test_names_of_checkpoints_are_left_to_lightning(run: Path):
    for name in ("last", "best"):
        assert add_run_config(["fit", "--ckpt_path", name]) == ["fit", "--ckpt_path", name]


def test_a_folder_of_several_runs_is_refused_with_their_names(run: Path):
    with pytest.raises(UserError, match=str(run)):
        find_checkpoint(run.parent)
    (run.parent / "empty").mkdir()
    with pytest.raises(UserError, match="no checkpoint"):
        find_checkpoint(run.parent / "empty")
    with pytest.raises(UserError, match="no such checkpoint"):
        find_checkpoint(run.parent / "nowhere")


def test_validate_and_predict_from_a_run_alone(tmp_path: Path):
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps({"prompt": "1+1?", "reference": "2"}) + "\n")
    path = config(tmp_path, "replay", data__heldout=str(held), trainer__max_steps=5)
    trained = quick("fit", "--trainer.max_steps", "2", "-c", path)  # the option wins, though the file stands after it
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert (tmp_path / "run" / "checkpoints" / "step-2.ckpt").exists()
    base = (tmp_path / "run" / "eval" / "base.jsonl").read_text()
    last = (tmp_path / "run" / "eval" / "last.jsonl").read_text()
    assert base != last
    told = quick("validate", "--ckpt_path", tmp_path / "run")
    assert told.returncode == 0, told.stderr[-2000:]
    assert f"weights of {tmp_path}/run/checkpoints/last.ckpt" in told.stdout + told.stderr
    assert (tmp_path / "run" / "eval" / "validate.jsonl").read_text() == last
    answered = quick("predict", "--ckpt_path", tmp_path / "run")
    assert answered.returncode == 0, answered.stderr[-2000:]
    assert len((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()) == 1
    held.write_text("")
    refused = quick("predict", "--ckpt_path", tmp_path / "run")
    assert refused.returncode == 2
    assert (tmp_path / "run" / "predictions.jsonl").read_text()
