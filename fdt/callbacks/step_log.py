"""One line a step: in the run's log file always, in the output where no terminal draws a progress bar."""

from __future__ import annotations

import math
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.callbacks.access import get_metrics
from fdt.metrics.step import BAR


class StepLog(Callback):
    """Writes ``log.txt`` in the run folder."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()
        if trainer.is_global_zero:
            root = Path(trainer.default_root_dir)
            root.mkdir(parents=True, exist_ok=True)
            self._file = (root / "log.txt").open("a", encoding="utf-8", buffering=1)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        if self._file is None:
            return
        ended = time.monotonic()
        line = format_step(
            trainer.global_step, find_last_step(trainer), get_metrics(outputs).values, ended - self._began
        )
        self._began = ended
        self._file.write(f"{read_clock()} {line}\n")
        if not sys.stdout.isatty():
            print(line, flush=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._file is not None:
            text = " ".join(f"{type(exception).__name__}: {exception}".split())
            self._file.write(f"{read_clock()} ended: {text}\n")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_clock() -> str:
    """The time of day with its date and zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def find_last_step(trainer: Trainer) -> int | None:
    """The step at which the run ends, by the limit that is met first; None where that is not known."""
    limits = [float(trainer.max_steps)] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        limits.append(trainer.max_epochs * trainer.num_training_batches)
    last = min(limits, default=math.inf)
    return None if last == math.inf else int(last)


def format_step(step: int, last: int | None, values: dict[str, float], seconds: float) -> str:
    """``step 3/60 loss 0.1234 reward 0.500 ... 4.2 s``."""
    parts = [f"step {step}" + (f"/{last}" if last else "")]
    shown = {"loss": "loss"} | BAR
    parts += [f"{short} {values[f'train/{name}']:.3g}" for name, short in shown.items() if f"train/{name}" in values]
    return " ".join([*parts, f"{seconds:.1f} s"])
