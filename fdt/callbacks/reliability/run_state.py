"""What a run must know to go on exactly beside its weights, and what it says where it goes on under other settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from fdt.callbacks.access import get_experience, get_learner
from fdt.checkpoint_files import warn
from fdt.errors import UserError
from fdt.rollout.sources import OnPolicy
from fdt.rollout.stored.hashes import hash_data

KEY = "run"
"""Where a checkpoint keeps it."""
IGNORED = ("config", "ckpt_path", "trainer.default_root_dir", "trainer.max_", "trainer.limit_", "trainer.enable_")
"""Settings that do not change a step that is taken; names or their beginnings."""
GROUP = ("lr", "initial_lr", "params")
"""Fields of an optimiser's group that are dealt with apart."""


class RunState(Callback):
    """Keeps the memory of scored answers, what a curriculum goes by, the names of scores seen, and marks of settings,
    data and world size.

    Of settings that are text only a hash is kept, so that a checkpoint names no code and no file. A difference is told
    on resume; the config's learning rate and optimiser settings then count, not those of the checkpoint.
    """

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        """
        Args:
            settings: the resolved config; null: settings are not compared.
        """
        self.settings = mark_settings(settings or {})
        self.data: dict[str, str] = {}
        self.loaded: dict[str, Any] = {}
        self._groups: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            data = get_experience(trainer)
            files = {"data.file": data.file, "data.heldout": data.heldout}
            self.data = {
                key: hash_data(Path(f)) for key, f in files.items() if isinstance(f, str) and Path(f).is_file()
            }

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        data = get_experience(trainer)
        state = {"settings": self.settings, "data": self.data, "world_size": trainer.world_size}
        state["nonfinite_steps"] = get_learner(pl_module).nonfinite_steps
        state["score_names"] = sorted(data.actor.score_names)
        if isinstance(data.source, OnPolicy) and data.source.memory is not None:
            state["memory"] = data.source.memory.pack()
        if data.source.curriculum is not None:
            state["curriculum"] = data.source.curriculum.pack()
        checkpoint[KEY] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self.loaded = checkpoint.get(KEY, {})
        data = get_experience(trainer)
        get_learner(pl_module).nonfinite_steps = self.loaded.get("nonfinite_steps", 0)
        data.actor.score_names |= frozenset(self.loaded.get("score_names", ()))
        if isinstance(data.source, OnPolicy) and data.source.memory is not None and "memory" in self.loaded:
            data.source.memory.unpack(self.loaded["memory"])
        if data.source.curriculum is not None and self.loaded.get("curriculum"):
            data.source.curriculum.unpack(self.loaded["curriculum"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the checkpoint's values are laid over them.
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compare(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """
        Raises:
            UserError: where the checkpoint lies in the middle of what is a rollout now.
        """
        self._compare(trainer)
        start_next_epoch(trainer)

    def _compare(self, trainer: Trainer) -> None:
        loaded = self.loaded
        self.loaded = {}
        if not loaded:
            return
        self._check_place(trainer)
        found = self._set_rates(trainer)
        found += list_differences(loaded.get("settings", {}), self.settings) if self.settings else []
        found += [
            f"the content of {key} has changed: what is left of the epoch is counted in the new file"
            for key, digest in self.data.items()
            if loaded.get("data", {}).get(key, digest) != digest
        ]
        if (before := loaded.get("world_size", trainer.world_size)) != trainer.world_size:
            found.append(f"{before} ranks before, {trainer.world_size} now: fresh answers and dropout are drawn anew")
        if found and trainer.is_global_zero:
            lines = "".join(f"\n  {line}" for line in found)
            warn(f"goes on with other settings, and not as the run would have without the break:{lines}")

    def _check_place(self, trainer: Trainer) -> None:
        size = get_experience(trainer).source.steps_per_rollout
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current  # counts more than it declares
        done = progress.processed
        if done % size:
            raise UserError(
                "the checkpoint lies in the middle of a rollout",
                got=f"{done} steps of this epoch, {size} to a rollout",
                key="ckpt_path",
                remedy="set updates_per_rollout and num_iterations as they were",
            )

    def _set_rates(self, trainer: Trainer) -> list[str]:
        """Lays the config's learning rate and optimiser settings over the checkpoint's; says what differs."""
        found = []
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for place, (group, own) in enumerate(zip(groups, self._groups, strict=True)):
            for key, value in own.items():
                if key not in GROUP and group.get(key) != value:
                    found.append(f"optimiser's {key}: {group.get(key)} before, {value} now")
                    group[key] = value
            rate = own.get("initial_lr", own["lr"])
            before = group.get("initial_lr", group["lr"])
            if before == rate:
                continue
            found.append(f"learning rate: {before:g} before, {rate:g} now")
            group["lr"] = group["lr"] / before * rate if before else rate
            group["initial_lr"] = rate
            for schedule in schedules:
                schedule.base_lrs[place] = rate
        return found


def start_next_epoch(trainer: Trainer) -> None:
    """Lets a run that goes on from an epoch's last step count the epoch after it as begun.

    Lightning takes the epoch for one that goes on in its middle and does not count it. Checkpoints of that epoch then
    looked complete, and a run that went on from one of those repeated the epoch, with its prompts and its seeds.
    """
    loop = trainer.fit_loop
    if not loop.restarted_mid_epoch:
        return
    progress: Any = loop.epoch_progress.total  # counts more than it declares
    if progress.processed == progress.ready:
        loop.reset_restart_stage()


def mark_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names and values: numbers, flags and null as they are, of everything else a hash."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name.startswith(IGNORED):
            continue
        if isinstance(value, dict) and value:
            found |= mark_settings(value, f"{name}.")
        elif value is None or isinstance(value, bool | int | float):
            found[name] = value
        else:
            found[name] = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return found


def list_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each setting that differs; learning rates and the like are told by the optimiser itself."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    names = [name for name in names if not name.startswith("model.optimizer.init_args.")]
    found = []
    for name in names:
        pair = (before.get(name), now.get(name))
        if any(isinstance(value, str) for value in pair):
            found.append(f"{name}: another value than before")
        else:
            found.append(f"{name}: {pair[0]} before, {pair[1]} now")
    return found
