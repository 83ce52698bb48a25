"""What a resumed run says about other settings, which of them count, and what a checkpoint is made of."""

import csv
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from fdt.callbacks.reliability.run_state import RunState, list_differences, mark_settings
from fdt.rollout.memory import ScoredMemory
from fdt.rollout.sources import OnPolicy
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.runs import config, quick

ALLOWED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "collections defaultdict"}


def list_strings(value: Any) -> Iterator[str]:
    """Every text within, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from list_strings(list(pair))
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from list_strings(part)


def list_globals(path: Path) -> set[str]:
    """What a checkpoint's pickles would import."""
    found = set()
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if name.endswith(".pkl"):
                found |= {str(arg) for code, arg, _ in pickletools.genops(file.read(name)) if code.name == "GLOBAL"}
    return found


@pytest.mark.slow
def test_other_settings_on_resume_are_told_and_count(tmp_path):
    path = config(tmp_path, "replay", trainer__max_steps=2, model__optimizer={"class_path": "torch.optim.AdamW"})
    first = quick("fit", "-c", path, "--model.optimizer.lr=0.001")
    assert first.returncode == 0, first.stderr[-3000:]
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"

    content = torch.load(checkpoint, weights_only=True)
    assert list_globals(checkpoint) <= ALLOWED | {g for g in list_globals(checkpoint) if g.startswith("torch ")}
    dotted = [
        t for t in list_strings(content) if re.match(r"(fdt|feedback|objectives|torch|lightning|tests)\.[a-z]", t)
    ]
    assert not [text for text in dotted if not text.startswith("model.")], dotted

    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().replace("it is, I think", "it is, I guess"))
    again = quick(
        "fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps=3", "--model.optimizer.lr=0.0001",
        "--model.max_grad_norm=0.5",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    told = again.stderr[again.stderr.index("goes on with other settings") :]
    assert "learning rate: 0.001 before, 0.0001 now" in told
    assert "the content of data.file has changed" in told
    assert "model.max_grad_norm: 1.0 before, 0.5 now" in told
    with (tmp_path / "run" / "metrics" / "version_1" / "metrics.csv").open() as file:
        rates = [float(row["train/optim/lr"]) for row in csv.DictReader(file) if row.get("train/optim/lr")]
    assert rates == pytest.approx([0.0001])

    same = quick(
        "fit", "-c", path, "--ckpt_path", "last", "--trainer.max_steps=4", "--model.optimizer.lr=0.0001",
        "--model.max_grad_norm=0.5",
    )  # fmt: skip
    assert same.returncode == 0 and "other settings" not in same.stderr

    newest = (tmp_path / "run" / "checkpoints" / "step-4.ckpt").read_bytes()
    (tmp_path / "run" / "checkpoints" / "step-4.ckpt").write_bytes(newest[:-100])  # one file with last.ckpt
    with_run = quick("fit", "-c", path, "--ckpt_path", tmp_path / "run", "--trainer.max_steps=5")
    assert with_run.returncode == 0, with_run.stderr[-3000:]
    assert "damaged, and left alone" in with_run.stderr and "Going on from step-3.ckpt" in with_run.stderr


def test_settings_are_compared_by_marks_without_their_text():
    before = mark_settings({"model": {"base": "some/model", "max_grad_norm": 1.0}, "trainer": {"max_steps": 3}})
    assert before["model.max_grad_norm"] == 1.0 and "some" not in str(before) and len(before) == 2
    now = mark_settings({"model": {"base": "other/model", "max_grad_norm": 2.0}, "trainer": {"max_steps": 9}})
    assert list_differences(before, now) == [
        "model.base: another value than before",
        "model.max_grad_norm: 1.0 before, 2.0 now",
    ]
    assert list_differences(before, before) == []


def build_trainer(memory: ScoredMemory | None = None, world_size: int = 1) -> SimpleNamespace:
    """What the callback reads of a trainer: a source with a memory, and no optimiser."""
    source = OnPolicy(memory=memory)
    done = SimpleNamespace(current=SimpleNamespace(processed=0))
    return SimpleNamespace(
        datamodule=SimpleNamespace(source=source, actor=SimpleNamespace(score_names=frozenset({"number"}))),
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=done), restarted_mid_epoch=False),
        lr_scheduler_configs=[],
        optimizers=[],
        world_size=world_size,
        is_global_zero=True,
    )


def test_memory_and_counts_come_back_with_a_checkpoint():
    turn = Turn("assistant", "x", (1, 2), (-0.1, -0.2), sampled=True)
    memory = ScoredMemory()
    memory.recall([Episode("e", Task("t", ()), (turn,), (Feedback(score=1.0),))], 0)
    checkpoint: dict = {}
    RunState().on_save_checkpoint(build_trainer(memory), SimpleNamespace(nonfinite_steps=3), checkpoint)
    fresh, learner = build_trainer(ScoredMemory()), SimpleNamespace(nonfinite_steps=0)
    fresh.datamodule.actor.score_names = frozenset()
    RunState().on_load_checkpoint(fresh, learner, checkpoint)
    assert fresh.datamodule.source.memory.kept == memory.kept != []
    assert learner.nonfinite_steps == 3 and fresh.datamodule.actor.score_names == {"number"}


def test_what_differs_from_the_checkpoint_is_told_once(capsys):
    state = RunState({"model": {"max_grad_norm": 2.0}})
    state.loaded = {"settings": mark_settings({"model": {"max_grad_norm": 1.0}}), "world_size": 2}
    for _ in range(2):
        state.on_train_start(build_trainer(), SimpleNamespace())
    told = capsys.readouterr().err
    assert told.count("goes on with other settings") == 1
    assert "model.max_grad_norm: 1.0 before, 2.0 now" in told and "2 ranks before, 1 now" in told
