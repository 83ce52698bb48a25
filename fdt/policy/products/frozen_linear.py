"""Products with frozen weights while answers are generated: laid out for the CPU's kernels once, instead of each time.

A decoder that writes one token reads all of its weights for a few rows; in the layout that oneDNN's kernels want, that
takes about two thirds of the time, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LARGEST = 2**30
"""Bytes of weights that are laid out a second time at most; larger models are multiplied as they are."""


class FrozenProduct:
    """``x W' + b`` for a linear layer whose weight is frozen.

    Args:
        layer: whose weight is copied into the other layout.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.packed: Tensor | None = None
        self.version = -1

    def refresh(self) -> None:
        """Lays the weight out anew where it was changed since."""
        version = self.layer.weight._version
        if self.packed is None or version != self.version:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.layer.weight.detach(), None)
            self.version = version

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.layer.bias, "none", [], "")
        return found


def find_frozen(model: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers whose products may be computed from a copy: frozen, in bfloat16 on the CPU, and not too many."""
    found = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
        and not any(p.requires_grad for p in module.parameters())
    }
    size = sum(module.weight.nbytes for module in found.values())
    return found if size <= LARGEST and torch.backends.mkldnn.is_available() else {}


class FrozenProducts:
    """The copies of a model's frozen weights, made at the first use and kept."""

    def __init__(self) -> None:
        self.products: dict[str, FrozenProduct] | None = None

    @contextmanager
    def use(self, model: nn.Module) -> Iterator[None]:
        """While this lasts, linear layers with frozen weights multiply with the copies. No gradient passes."""
        if self.products is None:
            self.products = {name: FrozenProduct(layer) for name, layer in find_frozen(model).items()}
        for product in self.products.values():
            product.refresh()
            vars(product.layer)["forward"] = product
        try:
            yield
        finally:
            for product in self.products.values():
                del vars(product.layer)["forward"]
