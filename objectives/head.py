"""Arithmetic of the language-model head in chunks of rows, so that [N, V] is never held whole.

`logits = hidden @ weight.T` with hidden [N, D] and weight [V, D]; results are float32, or float64 from float64 inputs.
Low-precision inputs are multiplied with float32 accumulation and keep float32 logits: a log-prob taken from a bf16
logit and a separately rounded normaliser could exceed 0.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ELEMENTS = 2**25
"""Elements of the largest temporary; one temporary is 128 MiB in float32. With fewer rows a product is slower on a CPU:
at V = 151,936 by 15 % where a chunk has 110 rows instead of 220."""


def chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of 0..n-1 whose temporaries of `width` elements a row stay within `ELEMENTS`; one empty slice for 0."""
    rows = max(1, ELEMENTS // max(1, width))
    return (slice(start, min(start + rows, n)) for start in range(0, max(n, 1), rows))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype results are computed in: float64 stays, all else becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def exact(like: Tensor) -> torch.autocast:
    """Switches autocast off: it would round float32 products to bfloat16 here, but not the normaliser beside them."""
    return torch.autocast(like.device.type, enabled=False)


def logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """hidden [n, D], weight [V, D] -> logits [n, V] in the wide dtype, without gradient."""
    with exact(hidden):
        if hidden.dtype == wide(hidden.dtype):
            return hidden @ weight.to(hidden.dtype).T
        if hidden.device.type == "cuda":
            return torch.mm(hidden, weight.to(hidden.dtype).T, out_dtype=torch.float32)
        if hidden.dtype == weight.dtype == torch.bfloat16 and native_bfloat16():
            return rounded_twice(hidden, weight)
        return hidden.float() @ weight.float().T


@lru_cache(maxsize=1)
def native_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by instructions of its own; without them it is several times slower than
    float32, with them several times faster."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rounded_twice(hidden: Tensor, weight: Tensor) -> Tensor:
    """bfloat16 hidden [n, D], weight [V, D] -> float32 logits [n, V], from two fast products.

    A CPU's bfloat16 product sums in float32 and rounds once, at the end, by up to 2^-9 of the logit. The second product
    begins with the rounded first one taken away, so it is what rounding took, rounded itself: together they are off by
    about 2^-18 of the logit.
    """
    first = hidden @ weight.T
    rest = torch.addmm(first, hidden, weight.T, beta=-1)
    return first.float().add_(rest)


def product(mass: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """mass [n, V] @ weight [V, D] in `dtype`."""
    with exact(mass):
        return mass.to(dtype) @ weight.to(dtype)


def eager(ctx) -> bool:
    """Whether only the hidden states need a gradient."""
    return ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]


class Gradients:
    """Collects the gradients of hidden [N, D] and weight [V, D] from those of chunks of logits [n, V]."""

    def __init__(self, ctx, hidden: Tensor, weight: Tensor) -> None:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        self.hidden, self.weight = hidden, weight
        self.to_hidden = torch.zeros_like(hidden) if needs_hidden else None
        # Many chunks add to one weight gradient: a low-precision sum would lose the small ones.
        self.to_weight = torch.zeros_like(weight, dtype=wide(weight.dtype)) if needs_weight else None

    def dense(self, rows: slice, grad: Tensor) -> None:
        """Gradient of all logits of these rows."""
        grad = grad.to(self.hidden.dtype)
        if self.to_hidden is not None:
            self.to_hidden[rows] = product(grad, self.weight, grad.dtype)
        if self.to_weight is not None:
            with exact(grad):
                self.to_weight += grad.T @ self.hidden[rows]

    def listed(self, rows: slice, ids: Tensor, grad: Tensor) -> None:
        """Gradient of the listed logits [n, K] of these rows."""
        if self.to_hidden is not None:
            taken = self.weight[ids].to(grad.dtype)
            with exact(grad):
                self.to_hidden[rows] = torch.einsum("nkd,nk->nd", taken, grad).to(self.hidden.dtype)
        if self.to_weight is not None:
            outer = grad[:, :, None] * self.hidden[rows, None].to(grad.dtype)
            self.to_weight.index_add_(0, ids.flatten(), outer.flatten(0, 1).to(self.to_weight.dtype))

    def result(self) -> tuple[Tensor | None, Tensor | None]:
        """(gradient of hidden, gradient of weight), None where not needed."""
        return self.to_hidden, None if self.to_weight is None else self.to_weight.to(self.weight.dtype)


class Normaliser(torch.autograd.Function):
    """One pass over V: log-normaliser [N], differentiable; and without gradient entropy [N] (not for a constant, whose
    entropy nobody may ask), the k likeliest ids [N, k], and the logits of these or else of the given ids [N, K].

    A row's gradient with respect to its hidden state is the mean head row under its own distribution, times what comes
    from above. Where the head is frozen, as under adapters, that mean is taken in the same pass and backward is a
    multiplication; where the head trains, backward recomputes the logits chunk by chunk.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, k: int, ids: Tensor | None) -> tuple[Tensor | None, ...]:
        n, dtype = len(hidden), wide(hidden.dtype)
        log_z = torch.empty(n, dtype=dtype, device=hidden.device)
        entropy = torch.empty_like(log_z) if any(ctx.needs_input_grad) else None
        top = torch.empty(n, k, dtype=torch.long, device=hidden.device)
        listed = torch.empty(n, k if ids is None else ids.shape[1], dtype=dtype, device=hidden.device)
        slope = torch.empty_like(hidden) if eager(ctx) else None
        for rows in chunks(n, len(weight)):
            scores = logits(hidden[rows], weight)
            if ids is not None:
                listed[rows] = scores.gather(1, ids[rows])
            elif k:
                listed[rows], top[rows] = scores.topk(k)
            highest = scores.amax(-1, keepdim=True)
            scores -= highest
            mass = scores.exp_() if entropy is None else scores.exp()
            z = mass.sum(-1)
            log_z[rows] = highest[:, 0] + z.log()
            if entropy is not None:
                entropy[rows] = z.log() - torch.linalg.vecdot(mass, scores) / z
            if slope is not None:
                slope[rows] = product(mass.div_(z[:, None]), weight, hidden.dtype)
        ctx.save_for_backward(hidden, weight, log_z, slope)
        ctx.mark_non_differentiable(*(value for value in (entropy, top, listed) if value is not None))
        return log_z, entropy, top, listed

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, log_z, slope = ctx.saved_tensors
        if slope is not None:
            return (grad[:, None] * slope).to(hidden.dtype), None, None, None
        pull = Gradients(ctx, hidden, weight)
        for rows in chunks(len(hidden), len(weight)):
            scores = logits(hidden[rows], weight).sub_(log_z[rows, None])
            pull.dense(rows, scores.exp_().mul_(grad[rows, None]))
        return *pull.result(), None, None


class LogitsAt(torch.autograd.Function):
    """hidden [N, D], weight [V, D], ids [N, K] -> logits of those ids [N, K], from gathered rows of `weight`.

    `known` are these logits where a pass over V already met them.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, ids: Tensor, known: Tensor | None) -> Tensor:
        ctx.save_for_backward(hidden, weight, ids)
        if known is not None:
            return known.clone()
        dtype = wide(hidden.dtype)
        out = torch.empty(ids.shape, dtype=dtype, device=hidden.device)
        for rows in chunks(len(ids), ids.shape[1] * hidden.shape[1]):
            listed = weight[ids[rows]].to(dtype)
            with exact(hidden):
                out[rows] = torch.einsum("nkd,nd->nk", listed, hidden[rows].to(dtype))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, ids = ctx.saved_tensors
        pull = Gradients(ctx, hidden, weight)
        for rows in chunks(len(ids), ids.shape[1] * hidden.shape[1]):
            pull.listed(rows, ids[rows], grad[rows])
        return *pull.result(), None, None
