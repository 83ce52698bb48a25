"""Runs the guards: logs what they measure, warns, stops, or puts the run back to where all was well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fdt.callbacks.access import get_learner, get_metrics
from fdt.callbacks.checkpoint import Checkpoint
from fdt.errors import UserError
from fdt.guards import Guard
from fdt.policy.fsdp import is_sharded


class Guards(Callback):
    """Watches a run. What each guard measures is logged as ``guard/<name>``."""

    def __init__(self, guards: list[Guard], every_n_train_steps: int = 5, max_rollbacks: int = 3) -> None:
        """
        Args:
            guards: what is watched, from fdt.guards.
            every_n_train_steps: steps between two checkpoints ``good.ckpt``, written while every guard is within its
                bounds; only where a guard may roll back.
            max_rollbacks: how often a run may be put back before it is stopped.
        """
        self.guards = guards
        self.every = every_n_train_steps
        self.max_rollbacks = max_rollbacks
        self.values: list[list[float]] = [[] for _ in guards]
        self.warned: set[int] = set()
        self.rollback_count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "warned": sorted(self.warned), "rollback_count": self.rollback_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if len(state_dict["values"]) == len(self.guards):
            self.values = state_dict["values"]
            self.warned = set(state_dict["warned"])
            self.rollback_count = state_dict["rollback_count"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        policy = get_learner(pl_module).policy
        if self._can_roll_back and policy is not None and is_sharded(policy):
            raise UserError(
                "sharded weights cannot be rolled back",
                got="roll_back",
                expected="warn or stop",
                key="trainer.callbacks Guards",
                remedy="stop, and resume from a checkpoint",
            )
        for guard in self.guards:
            if reason := guard.check_start(trainer):
                self._act(guard, reason, trainer)
        if self._can_roll_back:
            trainer.save_checkpoint(self._get_checkpoint_path(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = get_metrics(outputs)
        all_within_bounds = True
        for place, guard in enumerate(self.guards):
            value = guard.measure(metrics, pl_module.device)
            if value != value:
                continue
            self.values[place].append(value)
            pl_module.log(f"guard/{type(guard).__name__}", value, on_step=True, batch_size=1)
            if guard.check_bounds(self.values[place]) is None:
                self.warned.discard(place)
                continue
            all_within_bounds = False
            if (reason := guard.check_patience(self.values[place])) and place not in self.warned:
                self.warned.add(place)
                self._act(guard, reason, trainer)
                if guard.action == "roll_back":
                    return
        if all_within_bounds and self._can_roll_back and not trainer.global_step % self.every:
            trainer.save_checkpoint(self._get_checkpoint_path(trainer))

    @property
    def _can_roll_back(self) -> bool:
        return any(guard.action == "roll_back" for guard in self.guards)

    def _get_checkpoint_path(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "good.ckpt"

    def _act(self, guard: Guard, reason: str, trainer: Trainer) -> None:
        name = type(guard).__name__
        step = trainer.global_step
        if guard.action == "warn":
            rank_zero_warn(f"step {step}: {name}: {reason}. Shown once until it is within bounds again.")
            return
        if guard.action == "stop" or self.rollback_count >= self.max_rollbacks or not step:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, Checkpoint) and step:
                    callback.save_now(trainer)
            again = f" (after {self.rollback_count} times back)" if guard.action == "roll_back" and step else ""
            raise UserError(
                f"step {step}: {name}: {reason}{again}",
                key="trainer.callbacks Guards",
                remedy="look at the transcripts, lower the learning rate or loosen the guard",
            )
        self._roll_back(trainer)
        rank_zero_info(
            f"step {step}: {name}: {reason}. Weights and optimiser are back where every guard was within its bounds."
        )

    def _roll_back(self, trainer: Trainer) -> None:
        checkpoint = trainer.strategy.load_checkpoint(self._get_checkpoint_path(trainer), weights_only=True)
        trainer.strategy.load_model_state_dict(checkpoint, strict=False)
        trainer.strategy.load_optimizer_state_dict(checkpoint)
        self.rollback_count += 1
        # What was measured on the way that is given up no longer counts.
        kept = checkpoint["callbacks"].get(self.state_key, {"values": [[] for _ in self.guards]})["values"]
        self.values = [list(values) for values in kept]
        self.warned = set()
