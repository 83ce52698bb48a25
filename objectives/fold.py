"""Any function of full log-probs, folded over chunks of tokens."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from objectives.head import Pull, chunks, eager, logits, product


class Folded(torch.autograd.Function):
    """`f` of full log-probs, chunk by chunk: `f(log_probs [n, V], *others' [n, V])` gives values [n] and further [n]
    without gradient. `others` are (hidden, weight) pairs of constants.

    As in `Normaliser`, the gradient of the hidden states is taken at once where the head is frozen, since a row's value
    depends on its own hidden state alone; else backward recomputes each chunk.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, f: Callable[..., tuple], others: tuple) -> tuple[Tensor, ...]:
        slope = torch.empty_like(hidden) if eager(ctx) else None
        parts = []
        for rows in chunks(len(hidden), len(weight)):
            out, pull = Folded.part(hidden, weight, f, others, rows, slope is not None)
            parts.append([value.detach() for value in out])
            if slope is not None:
                slope[rows] = product(pull(None), weight, hidden.dtype)
        ctx.save_for_backward(hidden, weight, slope)
        ctx.f, ctx.others = f, others
        values, *further = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.mark_non_differentiable(*further)
        return values, *further

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, slope = ctx.saved_tensors
        if slope is not None:
            return (grad[:, None] * slope).to(hidden.dtype), None, None, None
        collected = Pull(ctx, hidden, weight)
        for rows in chunks(len(hidden), len(weight)):
            _, pull = Folded.part(hidden, weight, ctx.f, ctx.others, rows, True)
            collected.dense(rows, pull(grad[rows]))
        return *collected.result(), None, None

    @staticmethod
    def part(
        hidden: Tensor, weight: Tensor, f: Callable[..., tuple], others: tuple, rows: slice, wanted: bool
    ) -> tuple[tuple[Tensor, ...], Callable[[Tensor | None], Tensor]]:
        """Outputs of one chunk, and the pull-back of its values to its logits [n, V] (None above means ones)."""
        fixed = [torch.log_softmax(logits(h[rows], w), -1) for h, w in others]
        scores = logits(hidden[rows], weight).requires_grad_(wanted)
        with torch.set_grad_enabled(wanted):
            out = f(torch.log_softmax(scores, -1), *fixed)

        def pull(above: Tensor | None) -> Tensor:
            above = torch.ones_like(out[0]) if above is None else above
            return torch.autograd.grad(out[0], scores, above)[0]

        return out, pull
