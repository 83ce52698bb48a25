"""What a bench counts while a job runs: right answers and weighted tokens at each step, and held-out verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.callbacks.access import get_learner, get_metrics
from feedback.types import Episode

FILE = "recorded.json"


class JobRecorder(Callback):
    """Writes ``recorded.json``: an entry for each step, and one for each time that held-out prompts were measured."""

    def __init__(self, is_right: Callable[[Episode], bool]) -> None:
        """
        Args:
            is_right: whether a training episode was truly right, whatever its feedback.
        """
        self.is_right = is_right
        self.before: tuple[Episode, ...] = ()
        self.steps: list[dict[str, Any]] = []
        self.heldout: list[dict[str, Any]] = []
        self.measured: list[dict[str, Any]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        whole = get_metrics(outputs).batch
        objective = get_learner(pl_module).objective
        rollouts = whole.rollouts
        imitated = set(rollouts.episode[rollouts.masks["imitated"]].tolist())
        # A rollout that is learned from twice was sampled once.
        known = {id(episode) for episode in self.before}
        fresh = [
            e
            for row, e in enumerate(whole.episodes)
            if row not in imitated and id(e) not in known and not e.is_recalled
        ]
        self.before = tuple(whole.episodes)
        self.steps.append(
            {
                "rollouts": len(fresh),
                "right": sum(map(self.is_right, fresh)),
                "tokens": {"sampled": sum(len(turn.ids or ()) for episode in fresh for turn in episode.turns)}
                | {
                    name: int((weight != 0).sum())
                    for name, weight in rollouts.weights.items()
                    if objective.get_coefficient(name)
                },
            }
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measured = []

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.measured += outputs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.heldout.append({"step": trainer.global_step, "right": [record["score"] for record in self.measured]})
        self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        # The last measurement may come before or after the end of training, as other callbacks decide.
        path = Path(trainer.default_root_dir) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"steps": self.steps, "heldout": self.heldout}), encoding="utf-8")
