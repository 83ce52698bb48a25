"""Held-out records: gathered over ranks, written to ``eval/``, summarised in the log and the terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table

from fdt.callbacks.access import get_experience
from fdt.distributed import gather_objects, reduce_sum
from fdt.evaluation.base import Evaluation
from fdt.evaluation.returns import compute_interval, compute_quality, summarise_datasets, summarise_records
from feedback.gateway.budget import TALLY


def gather_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of all ranks, in the order of the tasks, each once."""
    records = [record for part in gather_objects(records) for record in part]
    found = {record["order"]: record for record in records}
    assert len(found) == len(records), "a held-out prompt was measured twice"
    return [found[place] for place in sorted(found)]


class Evaluate(Callback):
    """Writes ``eval/base.jsonl`` before the first step, ``eval/last.jsonl`` after each later measurement."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.measured_step = -1
        self.quality = math.nan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs a base that another arm measured before the first step, so that this arm's curve begins there too."""
        path = Path(trainer.default_root_dir) / "eval" / "base.jsonl"
        if trainer.global_step or trainer.num_sanity_val_steps or not trainer.is_global_zero or not path.is_file():
            return
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        log_summary(trainer, summarise(get_experience(trainer).evaluation, records))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the last step too, wherever in an epoch ``max_steps`` fell."""
        if self.measured_step != trainer.global_step and not trainer.interrupted:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.records = []

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.records += outputs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        name = "base" if trainer.sanity_checking else "last" if fitting else "validate"
        self.measured_step = trainer.global_step
        if name == "base" and trainer.global_step:  # a finished run was resumed: this is not the base
            return
        self._write_results(trainer, name)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.records += outputs

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_results(trainer, "test")

    def _write_results(self, trainer: Trainer, name: str) -> None:
        evaluation = get_experience(trainer).evaluation
        records = gather_records(self.records)
        summary = summarise(evaluation, records)
        self.quality = compute_quality(evaluation, records)
        calls = count_calls(trainer)
        if trainer.is_global_zero:
            print_summary(name, len(records), summary, compute_interval(evaluation, records))
            write_lines(Path(trainer.default_root_dir) / "eval" / f"{name}.jsonl", records)
            if name in ("base", "last"):
                log_summary(trainer, summary | calls)


def summarise(evaluation: Evaluation, records: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of a measurement: over all records, and over those of each data set."""
    return summarise_records(evaluation, records) | summarise_datasets(evaluation, records)


def count_calls(trainer: Trainer) -> dict[str, float]:
    """What calls to judges this measurement took, on all ranks."""
    calls = {f"judge/{name}": torch.tensor(value) for name, value in TALLY.take().items()}
    return reduce_sum(calls, trainer.strategy.root_device)


def log_summary(trainer: Trainer, summary: dict[str, float]) -> None:
    """Gives the numbers of a measurement to every logger, as ``val/…`` of the present step."""
    for logger in trainer.loggers:
        logger.log_metrics({f"val/{key}": value for key, value in summary.items()}, trainer.global_step)


def print_summary(name: str, prompts: int, summary: dict[str, float], interval: tuple[float, float] | None) -> None:
    """Prints one measurement as a table; the headline number with its 95 % interval."""
    table = Table(title=f"held-out prompts ({name})", title_justify="left")
    table.add_column("prompts", justify="right")
    for key in summary:
        table.add_column(key, justify="right")
    cells = [f"{value:.3f}" for value in summary.values()]
    if interval is not None:
        cells[0] += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    table.add_row(str(prompts), *cells)
    Console().print(table)


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes JSON Lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    part.replace(path)
