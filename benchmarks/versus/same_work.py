"""The check that both trainers do the same work: on rollouts that TRL made, the same loss and the same gradient.

In float32, whatever the benchmark's dtype: in bfloat16 two orders of the same sums already differ by a percent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fdt.data.batch import Batch, View
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from objectives import Objective, Rollouts
from versus.fdt_side import build_terms
from versus.trl_side import build_trainer
from versus.work import Work

TOLERANCE = 1e-3
"""Largest difference of loss and of gradient (norm-wise), as a share; float32 sums over a few thousand terms."""


@dataclass(frozen=True)
class Comparison:
    """One step's loss and gradient on both sides."""

    loss: tuple[float, float]
    """TRL's, fdt's."""
    norm: tuple[float, float]
    """Of the gradient: TRL's, fdt's."""
    gap: float
    """Norm of the gradients' difference, as a share of TRL's norm."""

    @property
    def same(self) -> bool:
        """Whether both differ by no more than `TOLERANCE`."""
        size = max(abs(self.loss[0]), 1e-3)
        return abs(self.loss[0] - self.loss[1]) <= TOLERANCE * size and self.gap <= TOLERANCE


def compare(work: Work) -> Comparison:
    """Loss and gradient of both on one step's rollouts."""
    work = replace(work, dtype="float32", steps=1, checkpointing=False, rows=work.total)
    trainer = build_trainer(work, [])
    trainer.args.teacher_model_kind = "base"  # the averaged teacher is made when training begins, and equals it then
    _stir_adapters(trainer.model)
    trainer.model.train()
    rows = [trainer.train_dataset[n] for n in range(work.prompts) for _ in range(work.generations)]
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._prepare_inputs(rows)
    loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=inputs.get("num_items_in_batch"))
    loss.backward()
    named = dict(trainer.model.named_parameters())
    theirs = {_name(key): p.grad for key, p in named.items() if p.requires_grad and p.grad is not None}
    value, ours = _compute_own(work, trainer, inputs)
    gap = torch.stack([(theirs[key] - ours[key]).norm() for key in theirs]).norm()
    norm = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    own = torch.stack([gradient.norm() for gradient in ours.values()]).norm()
    return Comparison((float(loss.detach()), value), (float(norm), float(own)), float(gap / norm))


def _stir_adapters(model: torch.nn.Module) -> None:
    """Adapters that do something, as after some steps: at the start all gradients of A are zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name and ".teacher." not in name:
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.add_(0.01 * noise)


def _name(key: str) -> str:
    return key.removeprefix("module.")


def _compute_own(work: Work, trainer: Any, inputs: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """fdt's loss and gradients, by the adapters' names, on TRL's rollouts and adapters."""
    policy = Policy(work.model, LoRA(rank=work.rank, alpha=2.0 * work.rank), work.dtype).to(inputs["prompt_ids"].device)
    own = dict(policy.model.named_parameters())
    for key, weight in trainer.model.named_parameters():
        if _name(key) in own and ".teacher." not in key:
            own[_name(key)].data.copy_(weight.data)
    batch = _build_batch(inputs)
    terms, coefficients = build_terms(work)
    objective = Objective(terms, coefficients)
    rollouts = replace(batch.rollouts, weights=objective.weigh(batch.rollouts))
    rollouts = replace(rollouts, totals=objective.compute_totals(rollouts))
    others = {}
    if batch.teacher is not None:
        with torch.no_grad(), policy.model.disable_adapter():
            others["teacher"] = policy.compute_log_probs(batch.teacher)
    found = objective(policy.compute_log_probs(batch.student), others, rollouts)
    found.value.backward()
    return float(found.value.detach()), {name: p.grad for name, p in own.items() if p.grad is not None}


def _build_batch(inputs: dict[str, Any]) -> Batch:
    """TRL's padded rollouts as fdt's batch."""
    answers, alive = inputs["completion_ids"], inputs["completion_mask"].bool()
    counts = alive.sum(-1)
    episode = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    sampled = torch.ones(len(episode), dtype=torch.bool, device=episode.device)
    rollouts = Rollouts(
        advantages=inputs["advantages"][episode],
        turn=episode,
        episode=episode,
        task=torch.arange(len(counts), device=counts.device),
        masks={"sampled": sampled, "distilled": sampled},
        lengths=counts,
    )
    teacher = None
    if "teacher_input_ids" in inputs:
        read = inputs["teacher_attention_mask"].bool()
        width = answers.shape[1]
        ids = inputs["teacher_input_ids"]
        teacher = _build_view(ids[:, :-width], read[:, :-width], answers, alive).to(ids.device)
    student = _build_view(inputs["prompt_ids"], inputs["prompt_mask"].bool(), answers, alive)
    rows = torch.arange(len(counts), device=counts.device)
    return Batch(student.to(counts.device), rollouts, teacher, None if teacher is None else rows)


def _build_view(prompts: Tensor, known: Tensor, answers: Tensor, alive: Tensor) -> View:
    """Left-padded prompts and right-padded answers as one view."""
    pairs = zip(prompts, known, answers, alive, strict=True)
    return View.from_pairs([(p[k].tolist(), a[m].tolist()) for p, k, a, m in pairs])
