"""Passes over the vocabulary, chunk by chunk, with backward passes of their own."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from objectives.vocabulary.products import (
    compute_logits,
    disable_autocast,
    make_room,
    multiply,
    slice_rows,
    split_rows,
    widen_dtype,
)


def is_eager(ctx: Any) -> bool:
    """Whether only the hidden states need a gradient."""
    return ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]


class Gradients:
    """Collects the gradients of hidden [N, D] and weight [V, D] from those of chunks of logits [n, V]."""

    def __init__(self, ctx: Any, hidden: Tensor, weight: Tensor) -> None:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        self.hidden = hidden
        self.weight = weight
        self.to_hidden = torch.zeros_like(hidden) if needs_hidden else None
        # Many chunks add to one weight gradient: a low-precision sum would lose the small ones.
        self.to_weight = torch.zeros_like(weight, dtype=widen_dtype(weight.dtype)) if needs_weight else None

    def add_dense(self, rows: slice, grad: Tensor) -> None:
        """Gradient of all logits of these rows."""
        grad = grad.to(self.hidden.dtype)
        if self.to_hidden is not None:
            self.to_hidden[rows] = multiply(grad, self.weight, grad.dtype)
        if self.to_weight is not None:
            with disable_autocast(grad):
                self.to_weight += grad.T @ self.hidden[rows]

    def add_listed(self, rows: slice, ids: Tensor, grad: Tensor) -> None:
        """Gradient of the listed logits [n, K] of these rows."""
        if self.to_hidden is not None:
            taken = self.weight[ids].to(grad.dtype)
            with disable_autocast(grad):
                self.to_hidden[rows] = torch.einsum("nkd,nk->nd", taken, grad).to(self.hidden.dtype)
        if self.to_weight is not None:
            outer = grad[:, :, None] * self.hidden[rows, None].to(grad.dtype)
            self.to_weight.index_add_(0, ids.flatten(), outer.flatten(0, 1).to(self.to_weight.dtype))

    def collect(self) -> tuple[Tensor | None, Tensor | None]:
        """(gradient of hidden, gradient of weight), None where not needed."""
        return self.to_hidden, None if self.to_weight is None else self.to_weight.to(self.weight.dtype)


class Normaliser(torch.autograd.Function):
    """One pass over V: log-normaliser [N], differentiable; and without gradient entropy [N] (not for a constant, whose
    entropy may never be needed), the k likeliest ids [N, k], and the logits of these or else of the given ids [N, K].

    A row's gradient with respect to its hidden state is the mean head row under its own distribution, times what comes
    from above. Where the head is frozen, as under adapters, that mean is taken in the same pass and backward is a
    multiplication; where the head trains, backward recomputes the logits chunk by chunk.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, k: int, ids: Tensor | None) -> tuple[Tensor | None, ...]:
        n = len(hidden)
        dtype = widen_dtype(hidden.dtype)
        log_z = torch.empty(n, dtype=dtype, device=hidden.device)
        entropy = torch.empty_like(log_z) if any(ctx.needs_input_grad) else None
        top = torch.empty(n, k, dtype=torch.long, device=hidden.device)
        listed = torch.empty(n, k if ids is None else ids.shape[1], dtype=dtype, device=hidden.device)
        slope = torch.empty_like(hidden) if is_eager(ctx) else None
        first, second = make_room(hidden, weight)
        for rows in split_rows(n, len(weight)):
            scores = compute_logits(hidden[rows], weight, first, second)
            if ids is not None:
                listed[rows] = scores.gather(1, ids[rows])
            elif k:
                listed[rows], top[rows] = scores.topk(k)
            highest = scores.amax(-1, keepdim=True)
            scores -= highest
            mass = torch.exp(scores, out=scores if entropy is None else slice_rows(second, len(scores)))
            z = mass.sum(-1)
            log_z[rows] = highest[:, 0] + z.log()
            if entropy is not None:
                entropy[rows] = z.log() - (mass[:, None] @ scores[..., None])[:, 0, 0] / z
            if slope is not None:
                slope[rows] = multiply(mass, weight, hidden.dtype, spare=scores) / z[:, None]
        ctx.save_for_backward(hidden, weight, log_z, slope)
        ctx.mark_non_differentiable(*(value for value in (entropy, top, listed) if value is not None))
        return log_z, entropy, top, listed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, log_z, slope = ctx.saved_tensors
        if slope is not None:
            return (grad[:, None] * slope).to(hidden.dtype), None, None, None
        pull = Gradients(ctx, hidden, weight)
        for rows in split_rows(len(hidden), len(weight)):
            scores = compute_logits(hidden[rows], weight).sub_(log_z[rows, None])
            pull.add_dense(rows, scores.exp_().mul_(grad[rows, None]))
        return *pull.collect(), None, None


class LogitsAt(torch.autograd.Function):
    """hidden [N, D], weight [V, D], ids [N, K] -> logits of those ids [N, K], from gathered rows of `weight`.

    `known` are these logits where a pass over V already met them.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, known: Tensor | None) -> Tensor:
        ctx.save_for_backward(hidden, weight, ids)
        if known is not None:
            return known.clone()
        dtype = widen_dtype(hidden.dtype)
        out = torch.empty(ids.shape, dtype=dtype, device=hidden.device)
        for rows in split_rows(len(ids), ids.shape[1] * hidden.shape[1]):
            listed = weight[ids[rows]].to(dtype)
            with disable_autocast(hidden):
                out[rows] = torch.einsum("nkd,nd->nk", listed, hidden[rows].to(dtype))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, ids = ctx.saved_tensors
        pull = Gradients(ctx, hidden, weight)
        for rows in split_rows(len(ids), ids.shape[1] * hidden.shape[1]):
            pull.add_listed(rows, ids[rows], grad[rows])
        return *pull.collect(), None, None
