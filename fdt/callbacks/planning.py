"""Logs what shows the two phases of learning to plan, where `data.marker` finds planning tokens."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.callbacks.access import get_experience, get_metrics
from fdt.distributed import gather_objects
from fdt.metrics.planning import count_phrases, semantic_entropy


class PlanningMetrics(Callback):
    """Adds to each step: ``train/semantic_entropy`` [nats], the variety of the strategic phrases in its answers, and
    ``train/execution_perplexity_relative``, the perplexity of all other tokens over that of the run's first step."""

    def __init__(self) -> None:
        self.first: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.first = state_dict["first"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        marker = get_experience(trainer).marker
        metrics = get_metrics(outputs)
        if marker is None:
            return
        counts = sum(gather_objects(count_phrases(metrics.batch.episodes, marker)), Counter[str]())
        found = {"semantic_entropy": semantic_entropy(counts)}
        if (now := metrics.values.get("train/execution_perplexity")) is not None:
            self.first = now if self.first is None else self.first
            found["execution_perplexity_relative"] = now / self.first
        known = {f"train/{name}": value for name, value in found.items() if not math.isnan(value)}
        pl_module.log_dict(known, on_step=True, batch_size=1)
