"""Reference reset: now and then the policy becomes its own reference, so that a KL term does not hold it back."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fdt.callbacks.access import get_callback, get_learner, is_measured_next, measure_again
from fdt.callbacks.evaluate import Evaluate
from fdt.errors import UserError
from fdt.policy.teachers import ReferencePolicy
from objectives import Plateau

STATE = ("resets", "history", "last", "pending")


class ResetReference(Callback):
    """Gives the terms' ``reference`` weights of its own and sets them to the policy's, every so many steps or
    when held-out quality stalls (ProRL, arXiv 2505.24864). ``train/kl_init`` and replay still refer to the start.
    """

    def __init__(
        self, every_n_train_steps: int | None = None, plateau: Plateau | None = None, optimizer: bool = False
    ) -> None:
        """
        Args:
            every_n_train_steps: optimiser steps between two resets.
            plateau: reset where the first held-out measure has stopped improving.
            optimizer: forget the optimiser's state too, as ProRL does; its second version keeps it.
        """
        if (every_n_train_steps or 0) <= 0 and plateau is None:
            raise UserError(
                "ResetReference.every_n_train_steps",
                got=every_n_train_steps,
                key="trainer.callbacks",
                expected="a number of steps above 0, or a plateau",
            )
        self.every = every_n_train_steps
        self.plateau = plateau
        self.optimizer = optimizer
        self.resets: list[int] = []
        self.history: dict[int, float] = {}
        self.last: int | None = None
        self.pending = False

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state_dict[name])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before the weights of a checkpoint are restored, so that its reference finds a place."""
        learner = get_learner(pl_module)
        if stage == "fit" and learner.reference is None:
            learner.reference = ReferencePolicy()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "reference" not in get_learner(pl_module).objective.needs:
            rank_zero_warn("ResetReference: no term asks for a reference, so nothing will change")
        if self.pending:
            measure_again(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every and trainer.global_step and not trainer.global_step % self.every:
            self._reset(trainer, pl_module)
        self.pending = self.plateau is not None and is_measured_next(trainer)
        pl_module.log("train/reference_resets", float(len(self.resets)), on_step=True, batch_size=1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.plateau is None or get_learner(pl_module).reference is None:
            return
        self.pending = False
        self.history[trainer.global_step] = get_callback(trainer, Evaluate).quality
        if self.plateau.is_due(list(self.history.values()), self.last):
            self.last = len(self.history)
            self._reset(trainer, pl_module)

    def _reset(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A step without a finite gradient does not count, and must not reset twice.
        if trainer.global_step in self.resets:
            return
        self.resets.append(trainer.global_step)
        learner = get_learner(pl_module)
        assert learner.reference is not None and learner.policy is not None  # made in `setup`
        learner.reference.copy_from(learner.policy)
        if self.optimizer:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        rank_zero_info(f"step {trainer.global_step}: the policy is its own reference from here on")
