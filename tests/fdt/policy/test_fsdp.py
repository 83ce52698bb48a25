"""FSDP2 on two ranks: runs go on from shards, and train as one rank does."""

import csv
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from fdt.checkpoint_files import find_damage
from tests.helpers.kills import find_differences
from tests.helpers.runs import config, fdt, quick, without_terms

pytestmark = pytest.mark.slow
SHARDED = {
    "class_path": "fdt.policy.fsdp.FSDP2",
    "init_args": {"save_distributed_checkpoint": True, "process_group_backend": "gloo"},
}


WHOLE = {"class_path": "fdt.policy.fsdp.FSDP2", "init_args": {"process_group_backend": "gloo"}}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}
LORA = {"rank": 4, "dropout": 0.1}


def build(folder: Path, lora: dict | None, optimizer: dict | None, strategy: dict) -> Path:
    """A run of dropout, an averaged teacher and moments, so that all of them must come back; without an optimiser the
    default algorithm's, with its terms."""
    folder.mkdir()
    path = config(
        folder,
        "replay",
        trainer__strategy=strategy,
        trainer__devices=2,
        trainer__max_steps=4,
        data__evaluation_limit=1,
        model__lora=lora,
        model__lr_scheduler_type="constant",  # a rate that falls hangs on the number of steps
        model__teacher={"class_path": "fdt.policy.teachers.EMA", "init_args": {"rate": 0.1}},
        **({"model__optimizer": optimizer} if optimizer else {}),
    )
    return path if optimizer else without_terms(path)


def read_whole(folder: Path, step: int, scratch: Path) -> dict:
    """Tensors and numbers of a folder of shards, or of a file: what a run goes on from."""
    place = folder / "run" / "checkpoints" / f"step-{step}.ckpt"
    assert find_damage(place) is None
    if place.is_file():
        held = torch.load(place, weights_only=True)
        return {name: held[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "trust")}
    assert len(list(place.glob("*.distcp"))) == 2, "one file for each rank"
    dcp_to_torch_save(place, scratch)
    return torch.load(scratch, weights_only=True)


@pytest.mark.parametrize(
    ("lora", "optimizer", "strategy"),
    [(None, ADAMW, SHARDED), (LORA, None, SHARDED), (None, None, WHOLE)],
    ids=["whole", "default", "default-in-one-file"],
)
def test_a_run_goes_on_from_shards(tmp_path, lora, optimizer, strategy):
    given = (lora, optimizer, strategy)
    whole, broken = build(tmp_path / "whole", *given), build(tmp_path / "broken", *given)
    assert (done := fdt("fit", "-c", whole)).returncode == 0, done.stderr[-3000:]
    first = fdt("fit", "-c", broken, "--trainer.max_steps", "2")
    assert first.returncode == 0, first.stderr[-3000:]
    again = fdt("fit", "-c", broken, "--ckpt_path", "last")
    assert again.returncode == 0 and "Restored all states" in again.stderr, again.stderr[-3000:]
    one, other = (read_whole(tmp_path / name, 4, tmp_path / f"{name}.pt") for name in ("whole", "broken"))
    assert find_differences(one, other) == []
    before = read_whole(tmp_path / "broken", 3, tmp_path / "before.pt")
    assert find_differences(before, other), "a step changes something"


def test_the_default_algorithm_trains_all_weights_in_shards_as_on_one_rank(tmp_path):
    """Its optimiser keeps moments for each term, and a teacher was put in place before their gradients are taken."""
    found = {}
    for name, changes in {"alone": {}, "shards": {"trainer__strategy": SHARDED, "trainer__devices": 2}}.items():
        folder = tmp_path / name
        folder.mkdir()
        path = config(folder, "replay", trainer__max_steps=3, data__evaluation_limit=1, model__lora=None, **changes)
        done = (fdt if changes else quick)("fit", "-c", without_terms(path))
        assert done.returncode == 0, done.stderr[-3000:]
        rows = csv.DictReader((folder / "run" / "metrics" / "version_0" / "metrics.csv").read_text().splitlines())
        kept = [row for row in rows if row["train/loss"]]
        norms = [column for column in kept[0] if column.startswith("train/signals/grad_norm/")]
        assert len(kept) == 3 and len(norms) > 1
        found[name] = [[float(row[column] or 0) for column in ("train/loss", *norms)] for row in kept]
    assert found["shards"] == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in found["alone"]]
