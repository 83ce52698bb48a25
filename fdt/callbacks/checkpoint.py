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

from fdt import checkpoint_files
from fdt.callbacks.access import get_experience
from fdt.checkpoint_files import Entry
from fdt.errors import UserError
from fdt.policy.loading.versions import build_read_error
from feedback.gateway import GatewayStop

STEP = "global_step"
"""Lightning's key of the optimiser steps in a checkpoint."""


class Checkpoint(ModelCheckpoint):
    """Saves ``checkpoints/step-N.ckpt`` and ``last.ckpt`` in the run folder, where ``--ckpt_path last`` finds the
    newest that is whole."""

    def __init__(self, every_n_train_steps: int = 5, save_top_k: int = 2) -> None:
        """
        Args:
            every_n_train_steps: optimiser steps between two checkpoints; a multiple of the steps of one rollout.
            save_top_k: how many are kept, the newest; ``last.ckpt`` is another name of the newest of them. Two, so that
                a damaged one does not end the run. -1 keeps all; 0 keeps ``last.ckpt`` alone.
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
            enable_version_counter=False,
        )
        self.every = every_n_train_steps
        self._period = 0

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
            if trainer.is_global_zero:
                prepare_folder(Path(self._get_folder(trainer)))
        super().setup(trainer, pl_module, stage)

    def _get_folder(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints"

    def _set_dirpath(self, trainer: Trainer) -> None:
        self.dirpath = str(self._get_folder(trainer))

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        # Lightning looks for `last` before `setup`.
        self._set_dirpath(trainer)
        found = checkpoint_files.find_newest(self._get_folder(trainer))
        return set() if found is None else {str(found)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._period = trainer.global_step // self.every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where a rollout is complete and a period is over: steps that were not taken do not count as steps, so
        that the two need not meet in the same batch."""
        if (batch_idx + 1) % get_experience(trainer).source.steps_per_rollout:
            return
        period = trainer.global_step // self.every
        # Once training has ended Lightning calls the epoch complete: a run extended from there would skip its rest.
        if period > self._period or trainer.global_step == trainer.max_steps:
            self._period = period
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
        is_new = saved.name == f"step-{trainer.global_step}.ckpt" and saved.exists()
        if trainer.strategy.broadcast(trainer.is_global_zero and is_new and self._link(trainer, saved, last)):
            self.last_model_path = str(last)
        else:
            super()._save_last_checkpoint(trainer, monitor_candidates)

    def _link(self, trainer: Trainer, saved: Path, last: Path) -> bool:
        if not checkpoint_files.link_checkpoint(saved, last):
            return False
        listed = [e for e in checkpoint_files.read_manifest(saved.parent) if e.name == saved.name]
        checkpoint_files.add_entry(saved.parent, Entry(last.name, listed[-1].sha256, trainer.global_step))
        return True

    def save_now(self, trainer: Trainer) -> None:
        """Saves the present step unless that has been done."""
        if trainer.global_step != self._last_global_step_saved:
            monitored = self._monitor_candidates(trainer)
            if self.save_top_k != 0:
                self._save_topk_checkpoint(trainer, monitored)
            self._save_last_checkpoint(trainer, monitored)


def prepare_folder(folder: Path) -> None:
    """Makes the folder and removes what a kill left half written.

    Raises:
        UserError: where nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint_files.remove_parts(folder)
        with (folder / f".probe.{os.getpid()}.part").open("wb") as file:
            file.write(b"x")
        checkpoint_files.remove_parts(folder)
    except OSError as fault:
        raise build_write_error(folder, fault) from fault


def build_write_error(path: Path, fault: Exception) -> UserError:
    """The message about a checkpoint that the disk does not take."""
    return UserError(
        "a checkpoint cannot be written",
        got=str(fault),
        path=path,
        remedy="make room there or let it be written to, and go on with --ckpt_path last: the ones before are whole",
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: a kill leaves the old file or the new one, whole.

    What was written is in ``manifest.json`` beside it with its SHA-256, which is checked before a checkpoint is read.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """
        Raises:
            UserError: where the disk is full or the folder may not be written to; what was there before stays.
        """
        target = Path(path)

        def list_file(found: str) -> None:
            checkpoint_files.add_entry(target.parent, Entry(target.name, found, int(checkpoint.get(STEP, 0))))

        try:
            with checkpoint_files.open_part(target, list_file) as part:
                torch.save(checkpoint, part)  # type: ignore[arg-type]  # has what torch calls: write and flush
        except (OSError, RuntimeError) as fault:
            raise build_write_error(target, find_os_error(fault)) from fault

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """
        Raises:
            UserError: where the file is not what was written, or holds more than plain data.
        """
        if Path(path).exists():
            checkpoint_files.check_whole(Path(path))
        try:
            return super().load_checkpoint(path, *arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as fault:  # torch raises half a dozen kinds, by where the file is damaged
            raise build_read_error(path, fault) from fault

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a file or a folder; one that is gone already is fine, since a kill may have come in between."""
        checkpoint_files.remove(Path(path))


def find_os_error(fault: BaseException) -> Exception:
    """The system's own error within a chain that a library made longer, else the fault itself."""
    step: BaseException | None = fault
    while step is not None:
        if isinstance(step, OSError):
            return step
        step = step.__cause__ or step.__context__
    assert isinstance(fault, Exception)
    return fault
