"""What callbacks find behind Lightning's own types: this project's learner, its experience and a step's metrics."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.experience import Experience
from fdt.learner import Learner
from fdt.metrics.step import StepMetrics

CallbackType = TypeVar("CallbackType", bound=Callback)


def get_learner(module: LightningModule) -> Learner:
    """The learner, which is the only module that a trainer of ours holds."""
    return cast(Learner, module)


def get_experience(trainer: Trainer) -> Experience:
    """The experience that the trainer's batches come from."""
    return cast(Any, trainer).datamodule  # set by Lightning, and not declared


def get_callback(trainer: Trainer, kind: type[CallbackType]) -> CallbackType:
    """The run's first callback of this class; every run has those that the command adds."""
    return next(callback for callback in cast(Any, trainer).callbacks if isinstance(callback, kind))


def find_callback(trainer: Trainer, kind: type[CallbackType]) -> CallbackType | None:
    """The run's first callback of this class; None where it has none."""
    return next((callback for callback in cast(Any, trainer).callbacks if isinstance(callback, kind)), None)


def get_metrics(outputs: Any) -> StepMetrics:
    """The metrics of the step just taken, from what `Learner.training_step` returned."""
    return outputs["metrics"]


def is_measured_next(trainer: Trainer) -> bool:
    """Whether the held-out measurement follows the step that has just been taken."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    assert fetcher is not None  # a batch has just been fetched with it
    return loop.epoch_loop._should_check_val_fx(fetcher)


def measure_again(trainer: Trainer) -> None:
    """Makes the measurement of the step that a run was resumed from: a checkpoint is written before it."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True
