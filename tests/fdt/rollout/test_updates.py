"""Several updates from one rollout; what stands in for unknown behaviour; terms that cannot act say so."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdt.data.collate import Collator
from fdt.engines import HuggingFace
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.rollout.actor import Actor
from tests.helpers.batches import batch, learner, shake
from tests.helpers.runs import config, fdt, quick

SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 3.0}}
ONCE = "cannot act"


def run(folder: Path, mode: str = "on_policy", **settings):
    done = quick("fit", "-c", config(folder, mode, **settings))
    assert done.returncode == 0, done.stderr[-2000:]
    with (folder / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        return done, [row for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_the_clip_acts_when_a_rollout_is_used_four_times(tmp_path):
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 4, "num_generations": 4, "updates_per_rollout": 4},
    }
    saved = [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 4}}]
    grader = {"class_path": "tests.helpers.probes.EvenBytes"}
    done, rows = run(
        tmp_path,
        data__source=source,
        data__grader=grader,
        trainer__callbacks=saved,
        trainer__max_steps=8,
        model__optimizer=SGD,
        model__max_grad_norm=100.0,
    )
    assert ONCE not in done.stderr + done.stdout
    assert len(rows) == 8
    for number, row in enumerate(rows):
        if number % 4 == 0:  # the first update of a rollout is on-policy
            assert float(row["train/clip_fraction"]) == 0
            assert float(row["train/ratio_min"]) == pytest.approx(1, abs=1e-3) == float(row["train/ratio_max"])
    later = [row for number, row in enumerate(rows) if number % 4]
    assert max(float(row["train/clip_fraction"]) for row in later) > 0
    assert max(float(row["train/ratio_max"]) for row in later) > 1.28
    assert max(float(row["train/approx_kl"]) for row in later) > 0
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    first = next(r for r in told if r["step"] == 1)["tokens"]
    assert all(t["old"] == pytest.approx(t["logp"], abs=1e-3) for t in first)
    fourth = next(r for r in told if r["step"] == 4)["tokens"]
    assert any(abs(t["old"] - t["logp"]) > 0.01 for t in fourth)


@pytest.mark.slow
def test_with_one_update_a_clip_that_cannot_act_says_so_once(tmp_path):
    done, rows = run(tmp_path, model__optimizer=SGD)
    assert (done.stderr + done.stdout).count(ONCE) == 1
    assert all(float(row["train/clip_fraction"]) == 0 for row in rows)
    assert all(float(row["train/ratio_max"]) == 1 for row in rows)


@pytest.mark.slow
def test_dropping_the_scalar_stream_leaves_its_term_inert_and_says_so_once(tmp_path):
    source = {"class_path": "fdt.rollout.sources.Replay", "init_args": {"rows_per_step": 4, "behaviour": "drop"}}
    done, rows = run(tmp_path, "replay", data__source=source)
    assert (done.stderr + done.stdout).count("term 'policy' trained on nothing") == 1
    assert all(float(row["train/loss/policy"] or 0) == 0 for row in rows)
    assert any(float(row["train/loss/distill"] or 0) > 0 for row in rows)


def test_replayed_rows_are_compared_with_the_starting_policy(tiny_model):
    made = learner(tiny_model)
    step = replace(batch(made.policy.tokenizer), behaviour="start")
    start = made.policy.compute_log_probs(step.student).log_probs.detach()
    shake(made.policy)
    weights = made.objective.weigh(step.rollouts)
    rollouts = replace(step.rollouts, weights=weights)
    rollouts = replace(rollouts, totals=made.objective.compute_totals(rollouts))
    _, student, _, used = made.compute_loss(replace(step, rollouts=rollouts))
    torch.testing.assert_close(used.old_log_probs, start, rtol=1e-5, atol=1e-5)
    assert (student.log_probs - used.old_log_probs).abs().max() > 0.01
    fresh = made.compute_loss(replace(step, rollouts=rollouts, behaviour="policy"))[3]
    assert fresh.old_log_probs is None


def test_kept_log_probs_win_over_the_start(tiny_model):
    made = learner(tiny_model)
    step = replace(batch(made.policy.tokenizer), behaviour="start")
    old = torch.full_like(step.rollouts.advantages, -1.0)
    rollouts = replace(step.rollouts, old_log_probs=old, weights=made.objective.weigh(step.rollouts))
    rollouts = replace(rollouts, totals=made.objective.compute_totals(rollouts))
    assert torch.equal(made.compute_loss(replace(step, rollouts=rollouts))[3].old_log_probs, old)


def test_old_log_probs_know_no_dropout(tiny_model):
    """Else a run that goes on after a kill, whose generator stands elsewhere, would find other ones."""
    policy = Policy(tiny_model, LoRA(rank=4, dropout=0.5), "float32").train()
    shake(policy)
    actor = Actor(policy, HuggingFace(), Collator(policy.tokenizer))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(actor.store_old_log_probs(batch(policy.tokenizer)).rollouts.old_log_probs)
    assert torch.equal(*found) and policy.training


def test_steps_without_a_finite_gradient_touch_nothing_and_end_the_run(tmp_path):
    path = config(tmp_path, "replay", trainer__max_steps=30, trainer__check_val_every_n_epoch=1000)
    done = fdt(
        "fit",
        "-c",
        path,
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.lr=1e38",
        "--model.max_grad_norm=1e30",
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "changed no weight: its " in done.stderr and "is not finite; samples: r" in done.stderr
    assert "5 steps in a row were not finite" in done.stderr and "Traceback" not in done.stderr


def test_kept_log_probs_are_those_of_training_under_mixed_precision(tmp_path):
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 2, "num_generations": 2, "updates_per_rollout": 2},
    }
    callback = {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 2}}
    done, rows = run(
        tmp_path,
        "on_policy",
        data__source=source,
        trainer__precision="bf16-mixed",
        trainer__max_steps=1,
        trainer__callbacks=[callback],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first = next(row for row in rows if row["train/ratio_max"])
    assert float(first["train/ratio_max"]) - float(first["train/ratio_min"]) < 1e-3
