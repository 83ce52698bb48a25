"""``fdt predict``: one JSON line a prompt, with the answer, its log-prob and its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from fdt.callbacks.evaluate import gather_records, write_lines
from fdt.errors import UserError


class WritePredictions(Callback):
    """Writes ``predictions.jsonl`` into the run folder."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.records += outputs

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """
        Raises:
            UserError: where there was nothing to answer.
        """
        records = gather_records(self.records)
        path = Path(trainer.default_root_dir) / "predictions.jsonl"
        if not records:
            raise UserError("no prompt to answer; the file is left as it was", path=path, key="data.test_file")
        if trainer.is_global_zero:
            write_lines(path, records)
        rank_zero_info(f"{len(records)} predictions: {path}")
