"""Any function of full log-probs, folded over chunks of tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from objectives.vocabulary.head import Gradients, is_eager
from objectives.vocabulary.products import compute_logits, multiply, split_rows

Pull = Callable[[Tensor | None], Tensor]
"""From the gradient of values [n] (None: ones) to that of their logits [n, V]; called once."""
Part = Callable[..., tuple[tuple[Tensor, ...], Pull]]
"""One chunk: from the student's logits [n, V] and those of others, all free to overwrite, to values [n] that have a
gradient, further [n] that have none, and the pull-back of the values."""


def trace(f: Callable[..., tuple[Tensor, ...]], wanted: bool) -> Part:
    """The part of an `f` of log-probs, `f(log_probs [n, V], *others' [n, V])`, whose gradient autograd takes."""

    def part(scores: Tensor, *others: Tensor) -> tuple[tuple[Tensor, ...], Pull]:
        scores.requires_grad_(wanted)
        fixed = [torch.log_softmax(other, -1) for other in others]
        with torch.set_grad_enabled(wanted):
            out = f(torch.log_softmax(scores, -1), *fixed)

        def pull(above: Tensor | None) -> Tensor:
            return torch.autograd.grad(out[0], scores, torch.ones_like(out[0]) if above is None else above)[0]

        return out, pull

    return part


class Folded(torch.autograd.Function):
    """A `Part`, chunk by chunk. `others` are (hidden, weight) pairs of constants.

    As in `Normaliser`, the gradient of the hidden states is taken at once where the head is frozen, since a row's value
    depends on its own hidden state alone; else backward recomputes each chunk.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, part: Part, others: tuple) -> tuple[Tensor, ...]:
        slope = torch.empty_like(hidden) if is_eager(ctx) else None
        parts = []
        for rows in split_rows(len(hidden), len(weight)):
            out, pull = Folded.once(hidden, weight, part, others, rows)
            parts.append([value.detach() for value in out])
            if slope is not None:
                slope[rows] = multiply(pull(None), weight, hidden.dtype)
            del out, pull  # they hold the chunk, and the next one needs its room
        ctx.save_for_backward(hidden, weight, slope)
        ctx.part = part
        ctx.others = others
        values, *further = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.mark_non_differentiable(*further)
        return values, *further

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, slope = ctx.saved_tensors
        if slope is not None:
            return (grad[:, None] * slope).to(hidden.dtype), None, None, None
        collected = Gradients(ctx, hidden, weight)
        for rows in split_rows(len(hidden), len(weight)):
            _, pull = Folded.once(hidden, weight, ctx.part, ctx.others, rows)
            collected.add_dense(rows, pull(grad[rows]))
            del pull
        return *collected.collect(), None, None

    @staticmethod
    def once(hidden: Tensor, weight: Tensor, part: Part, others: tuple, rows: slice) -> tuple[tuple[Tensor, ...], Pull]:
        """The part of one chunk."""
        return part(compute_logits(hidden[rows], weight), *(compute_logits(h[rows], w) for h, w in others))
