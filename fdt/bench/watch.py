"""What a bench counts at each step: truly right answers, scored or not, and the tokens that each term heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.environments.conventions import verdict

FILE = "watch.json"


class Watch(Callback):
    """Writes ``watch.json``: one entry a step. Training prompts are fresh, so that its answers are to unseen lists."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        whole = outputs["outcome"].batch
        rollouts = whole.rollouts
        imitated = set(rollouts.episode[rollouts.marks["shown"]].tolist())
        fresh = [episode for row, episode in enumerate(whole.episodes) if row not in imitated]
        self.steps.append({
            "rollouts": len(fresh),
            "right": sum(verdict(episode.response, episode.task) for episode in fresh),
            "tokens": {"sampled": sum(len(episode.turns[-1].ids) for episode in fresh)} | {
                name: int((weight != 0).sum()) for name, weight in rollouts.weights.items()
                if pl_module.objective.coefficient(name)
            },
        })  # fmt: skip

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = Path(trainer.default_root_dir) / FILE
        path.write_text(json.dumps(self.steps), encoding="utf-8")
