"""Optimisers. `SignalAdamW` keeps moments for each loss term, so that a term with a large gradient does not set the
step of one with a small gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fdt.distributed import reduce_sum
from fdt.errors import UserError
from objectives import Rollouts

Gradients = Mapping[str, Sequence[Tensor] | None]
"""Per term, one gradient for each parameter of the optimiser in order; None: the term has no token in this step."""
OTHERS = frozenset({"recalled", "off_policy", "imitated"})
"""Masks of rows that are no answer of the policy in this step."""
MOMENTS = ("exp_avg", "exp_avg_sq")
HELD = 0.5
"""Share of the steps for which the rate is held where no answer has a score."""


def build_adamw(params: Iterable[Any], lr: float = 5e-4, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """AdamW without weight decay, which would pull adapters back to zero."""
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay)


class SignalAdamW(torch.optim.Optimizer):
    """AdamW whose moments belong to a named term: w <- w - lr * sum_k weight_k * m_k / (sqrt(v_k) + eps).

    Each term's gradient is clipped by itself and meets moments of its own. Terms that share one Adam share one second
    moment, so the term with the larger gradient sets the other's step; here a term counts by its weight, whatever the
    size of its gradient. A term without tokens in a step lets its momentum fade and keeps its second moment. The state
    lies in the ordinary `state_dict`, under ``<term>/exp_avg``, ``<term>/exp_avg_sq``, ``<term>/steps`` and
    ``<term>/updates``. Memory: two moments and one gradient of the trainable weights for each term.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_term_norm: float | None = None,
    ) -> None:
        """
        Args:
            params: what is trained.
            lr: learning rate.
            betas: decay of the first and second moments; 0.99 remembers some hundred steps.
            eps: added to the root of the second moment.
            weight_decay: decoupled, as in AdamW.
            max_term_norm: largest gradient norm of one term; larger ones are scaled down. null: `model.max_grad_norm`.
        """
        fits = max_term_norm is None or max_term_norm > 0
        if not (lr >= 0 and all(0 <= beta < 1 for beta in betas) and eps > 0 and fits):
            raise ValueError(f"SignalAdamW: got lr {lr}, betas {betas}, eps {eps}, max_term_norm {max_term_norm}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps}
        super().__init__(params, defaults | {"weight_decay": weight_decay, "max_term_norm": max_term_norm})

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        gradients: Gradients | None = None,
        weights: Mapping[str, float] | None = None,
        norms: Mapping[str, float] | None = None,
        max_norm: float = 1.0,
    ) -> Any:
        """
        Args:
            closure: called first where given.
            gradients: of each term; None: the parameters' own `grad` as one term named ``sum``.
            weights: what each term's part of the step is multiplied by (default 1).
            norms: norm of each term's gradient, where it is known already.
            max_norm: largest gradient norm of one term, where the optimiser has no `max_term_norm`.
        """
        result = None if closure is None else closure()
        params = [p for group in self.param_groups for p in group["params"]]
        if gradients is None:
            gradients = {"sum": [torch.zeros_like(p) if p.grad is None else p.grad for p in params]}
        for group in self.param_groups:
            if group["weight_decay"]:
                torch._foreach_mul_(group["params"], 1 - group["lr"] * group["weight_decay"])
        for name, found in gradients.items():
            if found is not None:
                known = None if norms is None else norms.get(name)
                found = self._clip(found, float(compute_norm(found)) if known is None else known, max_norm)
            self._apply_term(name, found, 1.0 if weights is None else weights.get(name, 1.0))
        return result

    def _clip(self, found: Sequence[Tensor], norm: float, max_norm: float) -> list[Tensor]:
        """A term's gradient, scaled down where its norm is too large."""
        clipped: list[Tensor] = []
        for group in self.param_groups:
            part = found[len(clipped) : len(clipped) + len(group["params"])]
            most = max_norm if group["max_term_norm"] is None else group["max_term_norm"]
            clipped += torch._foreach_mul(list(part), min(1.0, most / (norm + 1e-6)))
        return clipped

    def add_terms(self, names: Iterable[str]) -> None:
        """Gives terms that have no moments yet those of a term that had no gradient so far: what a checkpoint holds of
        sharded moments is loaded into moments that are there."""
        for group in self.param_groups:
            for name in names:
                self._make_moments(name, group)

    def _make_moments(self, name: str, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if f"{name}/steps" not in self.state[p]:
                moments = {f"{name}/{kind}": torch.zeros_like(p) for kind in MOMENTS}
                self.state[p].update({**moments, f"{name}/steps": 0, f"{name}/updates": 0})

    def _apply_term(self, name: str, found: Sequence[Tensor] | None, weight: float) -> None:
        """One term's part of the step."""
        start = 0
        for group in self.param_groups:
            params = group["params"]
            part = None if found is None else found[start : start + len(params)]
            start += len(params)
            if not self._update_moments(name, group, part) or not weight:
                continue
            states = [self.state[p] for p in params]
            steps = states[0][f"{name}/steps"]
            updates = states[0][f"{name}/updates"]
            first, second = group["betas"]
            root = torch._foreach_sqrt([state[f"{name}/exp_avg_sq"] for state in states])
            torch._foreach_div_(root, (1 - second**updates) ** 0.5)
            torch._foreach_add_(root, group["eps"])
            size = -group["lr"] * weight / (1 - first**steps)
            torch._foreach_addcdiv_(params, [state[f"{name}/exp_avg"] for state in states], root, size)

    def _update_moments(self, name: str, group: dict[str, Any], part: Sequence[Tensor] | None) -> bool:
        """Takes a gradient into the term's moments, or lets its momentum fade; whether the term ever had a gradient."""
        states = [self.state[p] for p in group["params"]]
        if part is None and not states[0].get(f"{name}/updates"):
            return False
        self._make_moments(name, group)
        first, second = group["betas"]
        means, squares = ([state[f"{name}/{kind}"] for state in states] for kind in MOMENTS)
        for state in states:
            state[f"{name}/steps"] += 1
        torch._foreach_mul_(means, first)
        if part is None:
            return True
        for state in states:
            state[f"{name}/updates"] += 1
        torch._foreach_add_(means, list(part), alpha=1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, list(part), list(part), value=1 - second)
        return True


class ScoreShare:
    """The share of the run's answers that have a score, as far as they were counted; a checkpoint keeps the counts."""

    def __init__(self, is_read: bool = True) -> None:
        """
        Args:
            is_read: whether anything asks; else nothing is counted.
        """
        self.is_read = is_read
        self.seen = self.scored = 0.0

    def add(self, rollouts: Rollouts, device: Any, stands_in: bool = False) -> None:
        """Counts the answers of a step over all ranks, whether anything is learned from them or not.

        Args:
            rollouts: this rank's.
            device: where the ranks' counts meet.
            stands_in: whether the rows only keep this rank in step, so that none counts.
        """
        if not self.is_read:
            return
        others = torch.zeros_like(rollouts.episode, dtype=torch.bool)
        for name in OTHERS & rollouts.masks.keys():
            others = others | rollouts.masks[name]
        rows = rollouts.episode[~others].unique()[: 0 if stands_in else None]
        scores = rollouts.scores.get("score")
        scored = torch.zeros(()) if scores is None else torch.isfinite(scores[rows]).sum()
        counts = reduce_sum({"seen": torch.tensor(float(len(rows))), "scored": scored}, device)
        self.seen += counts["seen"]
        self.scored += counts["scored"]

    @property
    def value(self) -> float:
        """In [0, 1]; 1 before anything was counted."""
        return self.scored / self.seen if self.seen else 1.0

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Writes the counts, where anything asks for them."""
        if self.is_read:
            checkpoint["score_share"] = (self.seen, self.scored)

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes the counts of a checkpoint, where anything asks for them; 0 where it has none."""
        if self.is_read:
            self.seen, self.scored = map(float, checkpoint.get("score_share", (0.0, 0.0)))


def build_schedule(
    optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: float, scored: ScoreShare | None = None
) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that rises over ``warmup_steps`` and falls linearly to 0 at ``total_steps`` (infinite: stays).

    With ``scored`` it is held before it falls, for half of the steps where no answer has a score and for none where all
    have one: what scores teach is found later where they are few.
    """

    def scale_rate(step: int) -> float:
        held = 0.0 if scored is None else HELD * (1 - scored.value)
        left = (1 - step / total_steps) / (1 - held)
        return min(1.0, (step + 1) / max(1, warmup_steps)) * min(1.0, max(0.0, left))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale_rate)


def count_steps(trainer: Any) -> float:
    """Optimiser steps of the whole run; Lightning's own estimate would make a data loader too early.

    Raises:
        UserError: where the run has no end.
    """
    epochs = trainer.max_epochs
    limits = [] if trainer.max_steps < 0 else [trainer.max_steps]
    if epochs is not None and epochs >= 0:
        limits.append(epochs * trainer.datamodule.steps_per_epoch)
    if not limits:
        raise UserError(
            "the learning rate falls to 0 at the last step, and the run has none",
            key="model.lr_scheduler_type",
            remedy="set trainer.max_steps or trainer.max_epochs",
        )
    return min(limits)


def compute_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Norm [] of all tensors taken as one vector, over all shards where they are sharded."""
    norm = torch.nn.utils.get_total_norm(list(tensors))
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
