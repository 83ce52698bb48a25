"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint; a second one ends it at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn

from fdt.callbacks.access import find_callback, get_experience
from fdt.callbacks.checkpoint import Checkpoint
from fdt.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds that the rest of a rollout's steps may take after a signal; else the run ends within the rollout."""
ECHO = 2.0
"""Seconds in which a further signal is the same one: those who stop a job often send it to the group and to each."""


class Interruption(Callback):
    """Stops a run between two steps; `SavingInterruption` where the run saves checkpoints."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}
        self._received_at = 0.0
        self._step_began = 0.0
        self._step_seconds = 0.0

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning, which would save nothing and wait for the end of an evaluation."""
        environment = trainer._accelerator_connector.cluster_environment
        requeued = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        if self._former or requeued or threading.current_thread() is not threading.main_thread():
            return
        self._former = {number: signal.signal(number, self._receive) for number in SIGNALS}

    on_sanity_check_start = _begin
    on_train_start = _begin
    on_validation_start = _begin
    on_test_start = _begin
    on_predict_start = _begin

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._former.items():
            # Lightning has put back what was there before its own by now: its handlers would hold the run in memory.
            if signal.getsignal(number) == self._receive:
                signal.signal(number, handler)
        self._former = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # Nothing is sent on to other ranks: they agree at the end of the step.
        now = time.monotonic()
        if self.received is not None and now - self._received_at > ECHO:
            raise Interrupted(number, "stopped at once; the last checkpoint is of an earlier step")
        if self.received is None:
            self.received = number
            self._received_at = now
            print("fdt: stopping after this step; once more stops at once", file=sys.stderr, flush=True)

    def _is_asked(self, trainer: Trainer) -> bool:
        """Whether any rank was told to stop; every rank must call."""
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self._step_began = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """
        Raises:
            Interrupted: where a rank was told to stop, after a checkpoint where the rollout is complete. Where it is
                not, its other steps are taken first if that takes less than `PATIENCE` on every rank.
        """
        self._step_seconds = time.monotonic() - self._step_began
        if not self._is_asked(trainer):
            return
        slow = count_missing_steps(trainer) * self._step_seconds > PATIENCE
        if is_rollout_complete(trainer) or trainer.strategy.reduce_boolean_decision(slow, all=False):
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """
        Raises:
            Interrupted: where a rank was told to stop; what was measured so far is lost, what was trained is kept.
        """
        if self._is_asked(trainer):
            self._stop(trainer)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.on_validation_batch_end(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.on_validation_batch_end(trainer)

    def _stop(self, trainer: Trainer) -> None:
        number = self.received or signal.SIGTERM
        checkpoint = find_callback(trainer, Checkpoint)
        if trainer.state.fn != TrainerFn.FITTING or not trainer.global_step:
            raise Interrupted(number, "stopped before anything was trained")
        if checkpoint is None:
            raise Interrupted(number, f"stopped after step {trainer.global_step}; nothing saves checkpoints here")
        root = trainer.default_root_dir
        if not is_rollout_complete(trainer):
            raise Interrupted(
                number,
                f"stopped after step {trainer.global_step}, within a rollout, which would take too long to end; go on "
                f"from the checkpoint before it: fdt fit --ckpt_path {root}",
            )
        checkpoint.save_now(trainer)
        raise Interrupted(
            number, f"stopped after step {trainer.global_step}, which is saved; go on: fdt fit --ckpt_path {root}"
        )


def count_missing_steps(trainer: Trainer) -> int:
    """Steps that the present rollout still has."""
    size = get_experience(trainer).source.steps_per_rollout
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current  # counts more than it declares
    return -progress.processed % size


def is_rollout_complete(trainer: Trainer) -> bool:
    """Whether a run could go on from here; counted in batches, as a step that was not finite is none."""
    return count_missing_steps(trainer) == 0


class SavingInterruption(Interruption, LightningCheckpoint):
    """A checkpoint by its class, so that Lightning calls it after all others: what is saved has all of the step."""
