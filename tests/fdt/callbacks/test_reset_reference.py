"""The reference is reset on time, its KL is then zero, and a resumed run still has it."""

import csv
import math
import signal
from pathlib import Path

import pytest
import torch
import yaml

from fdt.callbacks import ResetReference
from fdt.errors import UserError
from tests.helpers.runs import config, quick

TERMS = {
    "policy": {"class_path": "objectives.PolicyGradient"},
    "anchor": {"class_path": "objectives.ReferenceKL"},
}
SOURCE = {
    "class_path": "fdt.rollout.sources.OnPolicy",
    "init_args": {"prompts_per_rollout": 2, "num_generations": 2},
}
COEFFICIENTS = {"policy": 1.0, "anchor": 0.1}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}


FREE = {"model__terms": {"policy": TERMS["policy"]}, "model__coefficients": {}, "data__source": SOURCE}
"""Nothing else reads the start."""


def callbacks(reset: dict, every: int = 1, kill: int | None = None) -> list[dict]:
    made = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}},
        {"class_path": "fdt.callbacks.ResetReference", "init_args": reset},
    ]
    return made + (
        [{"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}}] if kill is not None else []
    )


def fit(folder: Path, called: list[dict], *arguments: str, code: int = 0, **settings):
    grader = {"class_path": "tests.helpers.probes.EvenBytes"}
    settings = {
        "model__terms": TERMS,
        "model__coefficients": COEFFICIENTS,
        "model__optimizer": ADAMW,
        "data__grader": grader,
        "trainer__max_steps": 6,
    } | settings
    done = quick("fit", "-c", config(folder, trainer__callbacks=called, **settings), *arguments)
    assert done.returncode == code, done.stderr[-2000:]
    return done


def logged(folder: Path, version: int = 0) -> list[dict[str, str]]:
    with (folder / "run" / "metrics" / f"version_{version}" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def last(folder: Path) -> dict:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


def test_after_a_reset_the_kl_is_zero_and_that_to_the_start_is_not(tmp_path):
    fit(tmp_path, callbacks({"every_n_train_steps": 2}), trainer__max_steps=5)
    rows = logged(tmp_path)
    anchor = [float(row["train/loss/anchor"]) for row in rows]
    start = [float(row["train/kl_init"]) for row in rows]
    assert anchor[0] == anchor[2] == anchor[4] == 0.0
    assert min(anchor[1], anchor[3]) > 0 and min(start[1:]) > 0
    assert [float(row["train/reference_resets"]) for row in rows] == [0, 1, 1, 2, 2]
    kept = last(tmp_path)["state_dict"]
    held = [value for name, value in kept.items() if name.startswith("reference.")]
    assert len(held) == sum(name.startswith("policy.") for name in kept) > 0


def test_a_plateau_resets_once_then_cools_down_and_the_kl_is_exactly_zero(tmp_path):
    # Nothing counts as an improvement. Measured at the start and after each step: due at the third time (step 2),
    # then not at the fourth to sixth, whatever they say, and again at the seventh (step 6).
    reset = {"plateau": {"patience": 2, "cooldown": 3, "min_delta": 9.0}}
    often = {"trainer__val_check_interval": 1, "trainer__check_val_every_n_epoch": None}
    fit(tmp_path, callbacks(reset), trainer__max_steps=7, data__evaluation_limit=1, **often)
    rows = logged(tmp_path)
    resets = [float(row["train/reference_resets"]) for row in rows]
    anchor = [float(row["train/loss/anchor"]) for row in rows]
    (at,) = [state["resets"] for name, state in last(tmp_path)["callbacks"].items() if "ResetReference" in name]
    assert at == [2, 6], (at, resets, anchor)
    # The first step's anchor is the start itself; the step after a reset has the policy as its reference.
    assert [step for step, value in enumerate(anchor) if value == 0.0] == [0, 2, 6]
    assert min(value for value in anchor if value) > 0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [False, True])
def test_a_resumed_run_has_the_reference_of_the_whole_one(tmp_path, optimizer):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reset = {"every_n_train_steps": 2, "optimizer": optimizer}
    for folder in (whole, broken):
        folder.mkdir()
    fit(whole, callbacks(reset))
    # Killed after the checkpoint of step 3, one step after a reset: its reference is no longer the start.
    fit(broken, callbacks(reset, 3, kill=5), code=-signal.SIGKILL)
    fit(broken, callbacks(reset, 3), "--ckpt_path", "last")
    expected, found = last(whole), last(broken)
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    for one, two in zip(logged(whole)[3:], logged(broken, 1), strict=True):
        assert one["train/loss/anchor"] == two["train/loss/anchor"]
        assert one["train/reference_resets"] == two["train/reference_resets"]
    counts = [int(state["step"]) for state in expected["optimizer_states"][0]["state"].values()]
    assert set(counts) == (set() if optimizer else {6})


@pytest.mark.slow
def test_a_stall_resets_and_a_resumed_run_remembers_it(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    # Nothing counts as an improvement: due at the third measurement, then again after two more.
    reset = {"plateau": {"patience": 2, "cooldown": 1, "min_delta": 9.0}}
    often = {"trainer__val_check_interval": 1, "trainer__check_val_every_n_epoch": None}
    for folder in (whole, broken):
        folder.mkdir()
    fit(whole, callbacks(reset), **often)
    fit(broken, callbacks(reset, 3, kill=5), code=-signal.SIGKILL, **often)
    fit(broken, callbacks(reset, 3), "--ckpt_path", "last", **often)
    (state,), (again,) = (
        [v for name, v in last(folder)["callbacks"].items() if "ResetReference" in name] for folder in (whole, broken)
    )
    assert again == state and len(state["resets"]) > 1
    for name, value in last(whole)["state_dict"].items():
        assert torch.equal(last(broken)["state_dict"][name], value), name


def test_a_reset_that_changes_nothing_says_so(tmp_path):
    alone = {"policy": {"class_path": "objectives.PolicyGradient"}}
    done = fit(
        tmp_path,
        callbacks({"every_n_train_steps": 1}),
        model__terms=alone,
        model__coefficients={},
        trainer__max_steps=1,
    )
    assert "no term asks for a reference" in done.stderr


def test_a_reset_without_a_time_is_refused():
    for steps in (None, 0, -1):
        with pytest.raises(UserError, match="a number of steps above 0, or a plateau"):
            ResetReference(steps)


def test_the_overlay_adds_its_callback_to_those_of_the_config(tmp_path):
    own = config(tmp_path, trainer__callbacks=[{"class_path": "tests.helpers.probes.Lean"}])
    done = quick("fit", "-c", own, "-c", "algorithm/prorl", "--print_config")
    assert done.returncode == 0, done.stderr[-2000:]
    made = yaml.safe_load(done.stdout)
    assert [c["class_path"] for c in made["trainer"]["callbacks"]] == [
        "tests.helpers.probes.Lean",
        "fdt.callbacks.ResetReference",
    ]
    assert made["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] == 200


def test_the_kl_to_the_start_is_measured_once_in_so_many_steps(tmp_path):
    fit(tmp_path, callbacks({"every_n_train_steps": 6}), trainer__max_steps=5, model__log_kl_to_init=3, **FREE)
    found = [float(row["train/kl_init"]) for row in logged(tmp_path)]
    assert [math.isnan(value) for value in found] == [False, True, True, False, True]
