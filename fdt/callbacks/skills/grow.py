"""Growth of the bank: held-out failures become lessons, and a step's wins and losses demonstrations and lessons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fdt.callbacks.access import get_callback, get_experience, get_metrics, is_measured_next, measure_again
from fdt.callbacks.evaluate import Evaluate, gather_records
from fdt.callbacks.skills.attempts import list_measured, list_trained
from fdt.distributed import gather_objects, get_rank, run_on_all
from fdt.errors import UserError
from feedback.skills import (
    Attempt,
    Skills,
    SkillWriter,
    Written,
    choose_failures,
    choose_outcomes,
    compute_success,
    run_writer,
)
from feedback.skills.types import TRAINING, VALIDATION
from feedback.types import Task

FILE = "skills.json"
STATE = ("measured", "pending", "grown_step", "refused")


class GrowSkills(Callback):
    """Adds to the bank of `data.skills` what a writer words, as SkillRL does (arXiv 2602.08234).

    After a held-out measurement the losses of categories with few wins are examined, the worst first and the categories
    in turn; at steps of training, if asked for, wins and losses of the step. Held-out prompts never get a skill that
    was learned from held-out answers. The bank is ``skills.json`` in the run folder, and in every checkpoint.
    """

    def __init__(
        self,
        writer: SkillWriter,
        every_n_validations: int | None = 1,
        every_n_train_steps: int | None = None,
        below: float = 0.4,
        success: float = 0.5,
        max_examined: int = 10,
        max_new: int = 3,
    ) -> None:
        """
        Args:
            writer: words what attempts teach: feedback.skills.TemplateSkills or feedback.skills.JudgeSkills.
            every_n_validations: measurements from one growth to the next, beginning with that before the first step;
                null: held-out answers teach nothing.
            every_n_train_steps: optimiser steps from one growth to the next out of training answers; null: they teach
                nothing.
            below: a category whose share of held-out successes lies below this is examined.
            success: score from which an answer counts as a success.
            max_examined: most attempts that are examined at once.
            max_new: most skills that are added at once.
        """
        for name, value in (("every_n_validations", every_n_validations), ("every_n_train_steps", every_n_train_steps)):
            if value is not None and value < 1:
                raise UserError(f"GrowSkills.{name}", got=value, expected="a number of at least 1, or null")
        for name, value in (("max_examined", max_examined), ("max_new", max_new)):
            if value < 1:
                raise UserError(f"GrowSkills.{name}", got=value, expected="a number of at least 1")
        self.writer = writer
        self.every_n_validations = every_n_validations
        self.every_n_train_steps = every_n_train_steps
        self.below = below
        self.success = success
        self.max_examined = max_examined
        self.max_new = max_new
        self.measured = 0
        self.pending = every_n_validations is not None  # the measurement before the first step, or that of a step
        self.grown_step = -1
        self.refused: dict[str, int] = {}
        self._tasks: dict[str, Task] = {}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state_dict[name])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """
        Raises:
            UserError: where there is no bank, or rollouts are made ahead, at times at which the bank may not be read.
        """
        if stage != "fit":
            return
        data = get_experience(trainer)
        if data.skills is None:
            raise UserError(
                "no bank to add to", key="data.skills", expected="feedback.skills.Shown or feedback.skills.Whispered"
            )
        if data.source.max_staleness and (self.every_n_validations or self.every_n_train_steps):
            raise UserError(
                "a bank that grows while rollouts are made ahead would depend on which was quicker",
                got=data.source.max_staleness,
                expected="0",
                key="data.source.max_staleness",
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tasks = {episode.task.key: episode.task for episode in get_experience(trainer).episodes}
        self._save(trainer)
        if self.pending:
            measure_again(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, skills = trainer.global_step, self._get_skills(trainer)
        due = bool(self.every_n_train_steps) and not step % (self.every_n_train_steps or 1)
        if due and step != self.grown_step:  # a step without a finite gradient does not count, and teaches once
            self.grown_step = step
            own = list_trained(get_metrics(outputs).batch, self._tasks, skills, self._is_won)
            attempts = [attempt for part in gather_objects(own) for attempt in part]
            self._grow(trainer, choose_outcomes(attempts, self.max_examined), TRAINING)
        self.pending = self.every_n_validations is not None and is_measured_next(trainer)
        pl_module.log("train/skills/bank", float(len(skills.bank.skills)), on_step=True, batch_size=1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # What is measured once training is over teaches nothing: nobody would read it.
        if not self.pending or trainer.state.fn != TrainerFn.FITTING:
            return
        self.pending = False
        self.measured += 1
        if (self.measured - 1) % (self.every_n_validations or 1):
            return
        data, skills = get_experience(trainer), self._get_skills(trainer)
        records = gather_records(get_callback(trainer, Evaluate).records)
        attempts = list_measured(records, data.heldout_tasks, skills, self._is_won)
        low = {name: share for name, share in compute_success(attempts).items() if share < self.below}
        if low:
            told = ", ".join(f"{name or 'all'} {share:.0%}" for name, share in low.items())
            rank_zero_info(f"skills: fewer than {self.below:.0%} held-out successes in {told}")
        self._grow(trainer, choose_failures(attempts, self.below, self.max_examined), VALIDATION)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        skills = self._get_skills(trainer).bank.skills
        origins = Counter(skill.origin for skill in skills)
        told = ", ".join(f"{count} {origin}" for origin, count in origins.items()) or "none"
        rank_zero_info(f"skills: {len(skills)} in the bank ({told}); {_format_reasons(self.refused)}")

    def _is_won(self, score: float) -> bool:
        return score >= self.success

    def _get_skills(self, trainer: Trainer) -> Skills:
        skills = get_experience(trainer).skills
        assert skills is not None  # checked in `setup`
        return skills

    def _grow(self, trainer: Trainer, attempts: Sequence[Attempt], origin: str) -> None:
        """Has one rank ask the writer; all ranks add the same, or nothing where nothing could be read."""
        if not attempts:
            return
        bank = self._get_skills(trainer).bank

        def write() -> Written | None:
            return run_writer(self.writer, attempts, bank.skills, self.max_new) if get_rank() == 0 else None

        written = next(found for found in gather_objects(run_on_all(write)) if found is not None)
        step = trainer.global_step
        added = bank.add(msgspec.structs.replace(draft, origin=origin, step=step) for draft in written.drafts)
        refused = written.refused + Counter({"said before": len(written.drafts) - len(added)})
        self.refused = dict(Counter(self.refused) + refused)
        where = f"skills, step {step}: {len(attempts)} {origin} attempts"
        if added:
            rank_zero_info(f"{where} taught {', '.join(skill.id for skill in added)}")
            self._save(trainer)
        elif refused:
            rank_zero_warn(f"{where} taught nothing, the bank stays as it was: {_format_reasons(refused)}")

    def _save(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self._get_skills(trainer).bank.save(Path(trainer.default_root_dir) / FILE)


def _format_reasons(refused: dict[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in sorted(refused.items())) or "nothing refused"
