"""Gradients of each term apart: summed over the micro-batches of a step and over ranks, their norms and cosines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fdt.distributed import is_distributed
from fdt.policy.optimizers import compute_norm


class TermGradients:
    """Collects, for each term, one gradient for each parameter."""

    def __init__(self, parameters: Sequence[nn.Parameter], present: Sequence[str], absent: Sequence[str]) -> None:
        """
        Args:
            parameters: what is trained, in the optimiser's order.
            present: terms that have a token in this step on any rank.
            absent: terms that have none; they keep no gradient.
        """
        self.parameters = list(parameters)
        self.present = list(present)
        self.absent = list(absent)
        self.sums: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor], backward: Callable[..., None]) -> None:
        """One backward pass for each present term of a micro-batch.

        Every rank must call with the same terms: under FSDP2 a backward pass is a collective.
        """
        for name in self.present:
            backward(values[name], retain_graph=name != self.present[-1])
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            for p in self.parameters:
                p.grad = None
            if name in self.sums:
                torch._foreach_add_(self.sums[name], found)
            else:
                self.sums[name] = found

    @torch.no_grad()
    def average_over_ranks(self) -> None:
        """The mean over ranks of each term's gradient, one all-reduce a term; sharded ones are averaged already."""
        if not is_distributed() or any(hasattr(p, "full_tensor") for p in self.parameters):
            return
        for found in self.sums.values():
            flat = torch.cat([gradient.flatten() for gradient in found])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            for gradient, part in zip(found, flat.split([g.numel() for g in found]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def compute_norms(self) -> dict[str, float]:
        """Norm of each present term's gradient."""
        return {name: float(compute_norm(found)) for name, found in self.sums.items()}

    def compute_cosines(self, norms: dict[str, float]) -> Iterator[tuple[str, str, float]]:
        """Cosine of each pair of present terms; none where either gradient is zero."""
        for one, two in combinations(self.sums, 2):
            size = norms[one] * norms[two]
            if size:
                yield one, two, _multiply(self.sums[one], self.sums[two]) / size

    def as_dict(self) -> dict[str, list[Tensor] | None]:
        """What `SignalAdamW.step` takes."""
        return dict(self.sums) | dict.fromkeys(self.absent)


def _multiply(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    total = torch.stack([(a * b).sum() for a, b in zip(one, two, strict=True)]).sum()
    return float(total.full_tensor() if hasattr(total, "full_tensor") else total)
