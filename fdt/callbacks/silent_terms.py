"""A term that trains on nothing for a whole step, or without the teacher that it asks for, is announced, once: a
missing signal is how runs go wrong."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from fdt.callbacks.access import get_experience, get_learner, get_metrics
from fdt.data.batch import Batch
from fdt.distributed import reduce_sum
from objectives import KLAnchor, PolicyGradient, Term

REASONS = {
    "sampled": "every advantage is zero (all scores of each group are equal, or missing)",
    "distilled": "no row has a critique that the teacher could read",
    "imitated": "no row has a revision",
}
"""Why a term with this mask trains on nothing."""


class SilentTerms(Callback):
    """Warns once for each term that trained on nothing or without its teacher, and of steps without a finite gradient.

    Also notes once when a clip cannot act because every update is on-policy.
    """

    def __init__(self) -> None:
        self.warned: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        objective = get_learner(pl_module).objective
        for name in objective.terms:
            if not objective.get_coefficient(name):
                rank_zero_warn(f"term {name!r} has coefficient 0: it is switched off")
        clips = [name for name, term in objective.terms.items() if isinstance(term, PolicyGradient)]
        source = get_experience(trainer).source
        if clips and source.steps_per_rollout == 1 and source.on_policy:
            rank_zero_info(
                f"terms {clips}: with one update per rollout the ratio is 1, so clip_low, clip_high and truncate "
                "cannot act; they do with data.source.updates_per_rollout above 1"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = get_metrics(outputs)
        objective = get_learner(pl_module).objective
        used = {name: rows.sum() for name, rows in metrics.used.items()}
        # No term has the name "", which stands for what a teacher read.
        found = reduce_sum(used | {"": metrics.batch.rollouts.masks["distilled"].sum()}, pl_module.device)
        read = found.pop("")
        for name, rows in found.items():
            term = objective.terms[name]
            if name in self.warned or not objective.get_coefficient(name):
                continue
            if not rows:
                said = f"trained on nothing: {explain_silence(term, metrics.batch)}"
            elif not read and "teacher" in term.needs:
                said = "asks for a teacher, and no row has a critique that it could read: it trained without"
            else:
                continue
            self.warned.add(name)
            rank_zero_warn(f"step {trainer.global_step}: term {name!r} {said}. Shown once.")


def explain_silence(term: Term, batch: Batch) -> str:
    """Why a term trained on no token of a step, as far as its mask, its gate and the models that it asks tell."""
    mask = term.get_mask(batch.rollouts)
    if mask.any() and not term.weigh(batch.rollouts)[mask].any():
        return f"its gate, {type(term.gate).__name__}, gives every token of its mask weight 0"
    if isinstance(term, KLAnchor):
        return "a teacher read a critique of every prompt, and it holds only prompts without"
    reason = REASONS.get(term.mask, "no token is in its mask")
    if term.mask == "sampled" and term.needs - {"reference"}:
        return f"{reason}, and no teacher read a critique"
    return reason
