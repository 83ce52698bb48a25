"""Arithmetic of the language-model head in chunks of rows, so that [N, V] is never held whole.

`logits = hidden @ weight.T` with hidden [N, D] and weight [V, D]; results are float32, or float64 from float64 inputs.
Low-precision inputs are multiplied with float32 accumulation and keep float32 logits: a log-prob taken from a bf16
logit and a separately rounded normaliser could exceed 0.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ELEMENTS = 2**24
"""Elements of the largest temporary; one temporary is 64 MiB in float32."""


def chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of 0..n-1 whose temporaries of `width` elements a row stay within `ELEMENTS`."""
    rows = max(1, ELEMENTS // max(1, width))
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype results are computed in: float64 stays, all else becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """hidden [n, D], weight [V, D] -> logits [n, V] in the wide dtype."""
    device = hidden.device.type
    with torch.autocast(device, enabled=False):
        if hidden.dtype == wide(hidden.dtype):
            return hidden @ weight.to(hidden.dtype).T
        if device == "cuda" and not torch.is_grad_enabled():
            return torch.mm(hidden, weight.to(hidden.dtype).T, out_dtype=torch.float32)
        return hidden.float() @ weight.float().T


class Normaliser(torch.autograd.Function):
    """One pass over V: log-normaliser [N] (differentiable), entropy [N] and the k likeliest ids [N, k] (both not).

    Backward recomputes the logits of a chunk; it returns gradients to `hidden` and, where it trains, `weight`.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        n, dtype = len(hidden), wide(hidden.dtype)
        log_z = torch.empty(n, dtype=dtype, device=hidden.device)
        entropy = torch.empty_like(log_z)
        ids = torch.empty(n, k, dtype=torch.long, device=hidden.device)
        for rows in chunks(n, len(weight)):
            scores = logits(hidden[rows], weight)
            log_z[rows] = torch.logsumexp(scores, -1)
            if k:
                ids[rows] = scores.topk(k).indices
            scores -= log_z[rows, None]
            entropy[rows] = torch.special.entr(scores.exp_()).sum(-1)
        ctx.save_for_backward(hidden, weight, log_z)
        ctx.mark_non_differentiable(entropy, ids)
        return log_z, entropy, ids

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, log_z = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = torch.zeros_like(weight, dtype=wide(weight.dtype)) if needs_weight else None
        for rows in chunks(len(hidden), len(weight)):
            scores = logits(hidden[rows], weight).sub_(log_z[rows, None])
            pull = scores.exp_().mul_(grad[rows, None])
            if needs_hidden:
                to_hidden[rows] = (pull.to(weight.dtype) @ weight).to(hidden.dtype)
            if needs_weight:
                to_weight += (pull.to(hidden.dtype).T @ hidden).to(to_weight.dtype)
        return to_hidden, to_weight.to(weight.dtype) if needs_weight else None, None


class LogitsAt(torch.autograd.Function):
    """hidden [N, D], weight [V, D], ids [N, K] -> logits of those ids [N, K], from gathered rows of `weight`."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
        dtype = wide(hidden.dtype)
        out = torch.empty(ids.shape, dtype=dtype, device=hidden.device)
        for rows in chunks(len(ids), ids.shape[1] * hidden.shape[1]):
            listed = weight[ids[rows]].to(dtype)
            out[rows] = torch.einsum("nkd,nd->nk", listed, hidden[rows].to(dtype))
        ctx.save_for_backward(hidden, weight, ids)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, ids = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = torch.zeros_like(weight, dtype=wide(weight.dtype)) if needs_weight else None
        for rows in chunks(len(ids), ids.shape[1] * hidden.shape[1]):
            if needs_hidden:
                listed = weight[ids[rows]].to(grad.dtype)
                to_hidden[rows] = torch.einsum("nkd,nk->nd", listed, grad[rows]).to(hidden.dtype)
            if needs_weight:
                outer = grad[rows, :, None] * hidden[rows, None].to(grad.dtype)
                to_weight.index_add_(0, ids[rows].flatten(), outer.flatten(0, 1).to(to_weight.dtype))
        return to_hidden, to_weight.to(weight.dtype) if needs_weight else None, None
