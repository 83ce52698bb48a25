"""Checkpoints: in the run folder, whole or not at all, and only where a rollout is complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from fdt.callbacks.access import get_experience
from fdt.errors import UserError
from feedback.gateway import GatewayStop


class Checkpoint(ModelCheckpoint):
    """Saves ``checkpoints/step-N.ckpt`` and ``last.ckpt`` in the run folder, where ``--ckpt_path last`` finds it."""

    def __init__(self, every_n_train_steps: int = 5, save_top_k: int = 1) -> None:
        """
        Args:
            every_n_train_steps: optimiser steps between two checkpoints; a multiple of the steps of one rollout.
            save_top_k: how many are kept besides the last one, the newest; -1 keeps all.
        """
        super().__init__(
            filename="step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=every_n_train_steps,
            save_last=True,
            save_top_k=save_top_k,
            monitor="step" if save_top_k > 0 else None,
            mode="max",
            save_on_train_epoch_end=False,
        )
        self.every = every_n_train_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._set_dirpath(trainer)
        if stage == "fit":
            size = get_experience(trainer).source.steps_per_rollout
            if self.every % size:
                raise UserError(
                    "trainer.callbacks Checkpoint.every_n_train_steps",
                    got=self.every,
                    expected=f"a multiple of {size} (updates_per_rollout x num_iterations)",
                    remedy="a rollout cannot be resumed in its middle",
                )
        super().setup(trainer, pl_module, stage)

    def _set_dirpath(self, trainer: Trainer) -> None:
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        # Lightning looks for `last` before `setup`.
        self._set_dirpath(trainer)
        return super()._find_last_checkpoints(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        # Once training has ended Lightning calls the epoch complete: a run extended from there would skip its rest.
        if trainer.global_step == trainer.max_steps:
            self.save_now(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step is always kept."""
        self.save_now(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A judge that is out of reach ends the run between two rollouts, on all ranks: what was trained is kept."""
        if isinstance(exception, GatewayStop) and trainer.state.fn == TrainerFn.FITTING:
            self.save_now(trainer)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, torch.Tensor]) -> None:
        """``last.ckpt`` is another name of the step's own file, where there is one: the bytes are written once."""
        saved = Path(self._last_checkpoint_saved or "")
        last = saved.with_name("last.ckpt")
        is_new = saved.name == f"step-{trainer.global_step}.ckpt" and saved.is_file()
        if trainer.strategy.broadcast(trainer.is_global_zero and is_new and link_file(saved, last)):
            self.last_model_path = str(last)
        else:
            super()._save_last_checkpoint(trainer, monitor_candidates)

    def save_now(self, trainer: Trainer) -> None:
        """Saves the present step unless that has been done."""
        if trainer.global_step != self._last_global_step_saved:
            monitored = self._monitor_candidates(trainer)
            if self.save_top_k != 0:
                self._save_topk_checkpoint(trainer, monitored)
            self._save_last_checkpoint(trainer, monitored)


def link_file(source: Path, target: Path) -> bool:
    """Gives a file a second name, in one step; False where the file system has no such links."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        return False
    os.replace(part, target)
    return True


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: a kill leaves the old file or the new one, whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
