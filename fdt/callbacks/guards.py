"""Listens to the guards: logs what they measure, warns, stops, or puts the run back to where all was well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fdt.callbacks.checkpoint import Checkpoint
from fdt.errors import UserError
from fdt.guards import Guard
from fdt.policy.fsdp import is_sharded


class Guards(Callback):
    """Watches a run. What each guard measures is logged as ``guard/<name>``."""

    def __init__(self, guards: list[Guard], every_n_train_steps: int = 5, rollbacks: int = 3) -> None:
        """
        Args:
            guards: what is watched, from fdt.guards.
            every_n_train_steps: steps between two checkpoints ``good.ckpt``, written while every guard is quiet; only
                where a guard may roll back.
            rollbacks: how often a run may be put back before it is stopped.
        """
        self.guards, self.every, self.rollbacks = guards, every_n_train_steps, rollbacks
        self.seen: list[list[float]] = [[] for _ in guards]
        self.told: set[int] = set()
        self.rolled = 0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "told": sorted(self.told), "rolled": self.rolled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if len(state_dict["seen"]) == len(self.guards):
            self.seen, self.told = state_dict["seen"], set(state_dict["told"])
            self.rolled = state_dict["rolled"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._can_roll_back and is_sharded(pl_module.policy):
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
        quiet = True
        for place, guard in enumerate(self.guards):
            value = guard.measure(outputs["metrics"], pl_module.device)
            if value != value:
                continue
            self.seen[place].append(value)
            pl_module.log(f"guard/{type(guard).__name__}", value, on_step=True, batch_size=1)
            if guard.check_bounds(self.seen[place]) is None:
                self.told.discard(place)
                continue
            quiet = False
            if (reason := guard.check_patience(self.seen[place])) and place not in self.told:
                self.told.add(place)
                self._act(guard, reason, trainer)
                if guard.action == "roll_back":
                    return
        if quiet and self._can_roll_back and not trainer.global_step % self.every:
            trainer.save_checkpoint(self._get_checkpoint_path(trainer))

    @property
    def _can_roll_back(self) -> bool:
        return any(guard.action == "roll_back" for guard in self.guards)

    def _get_checkpoint_path(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "good.ckpt"

    def _act(self, guard: Guard, reason: str, trainer: Trainer) -> None:
        name, step = type(guard).__name__, trainer.global_step
        if guard.action == "warn":
            rank_zero_warn(f"step {step}: {name}: {reason}. Said once until it is well again.")
            return
        if guard.action == "stop" or self.rolled >= self.rollbacks or not step:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, Checkpoint) and step:
                    callback.keep(trainer)
            again = f" (after {self.rolled} times back)" if guard.action == "roll_back" and step else ""
            raise UserError(
                f"step {step}: {name}: {reason}{again}",
                key="trainer.callbacks Guards",
                remedy="look at the transcripts, lower the learning rate or loosen the guard",
            )
        self._roll_back(trainer)
        rank_zero_info(f"step {step}: {name}: {reason}. Weights and optimiser are back where every guard was quiet.")

    def _roll_back(self, trainer: Trainer) -> None:
        checkpoint = trainer.strategy.load_checkpoint(self._get_checkpoint_path(trainer), weights_only=True)
        trainer.strategy.load_model_state_dict(checkpoint, strict=False)
        trainer.strategy.load_optimizer_state_dict(checkpoint)
        self.rolled += 1
        # What was seen on the way that is given up no longer counts.
        kept = checkpoint["callbacks"].get(self.state_key, {"seen": [[] for _ in self.guards]})["seen"]
        self.seen, self.told = [list(values) for values in kept], set()
