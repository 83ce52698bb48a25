"""Products with frozen weights while answers are generated: laid out for the CPU's kernels once, instead of each time.

A decoder that writes one token reads all of its weights for a few rows; in the layout that oneDNN's kernels want, that
takes about two thirds of the time, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from fdt.policy.products.fused_linear import FusedProduct, Slot, find_shared_inputs, split_wide

if TYPE_CHECKING:
    from fdt.policy.products.adapted_linear import AdaptedLinear

LARGEST = 2**30
"""Bytes of weights that are laid out a second time at most; larger models are multiplied as they are."""


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
    return found if size <= LARGEST and can_lay_out() else {}


def can_lay_out() -> bool:
    """Whether oneDNN's kernels multiply bfloat16 on this CPU; an older one would refuse the layout."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FrozenProducts:
    """The copies of a model's frozen weights, made at the first use and kept."""

    def __init__(self) -> None:
        self.products: list[FusedProduct] | None = None
        self.slot = Slot()

    @contextmanager
    def use(self, causal: nn.Module, adapters: Mapping[nn.Module, AdaptedLinear]) -> Iterator[None]:
        """While this lasts, linear layers with frozen weights multiply with the copies, those that read the same input
        at once, and each with its adapter, if it has one here. No weight changes and no gradient passes."""
        if self.products is None:
            self.products = self._build(causal, adapters)
        changed: list[nn.Module] = []
        try:
            for product in self.products:
                own = [adapters.get(layer) for layer in product.layers]
                with torch.no_grad():
                    product.refresh(own)
                for place, (layer, adapter) in enumerate(zip(product.layers, own, strict=True)):
                    changed.append(layer if adapter is None else adapter)
                    vars(changed[-1])["forward"] = partial(product.get_part, place)
            yield
        finally:
            for module in changed:
                del vars(module)["forward"]
            self.slot.clear()

    def _build(self, causal: nn.Module, adapters: Mapping[nn.Module, AdaptedLinear]) -> list[FusedProduct]:
        frozen = list(find_frozen(causal).values())
        groups = find_shared_inputs(causal, frozen) if frozen else []
        parts = [part for own in groups for part in split_wide(own, [adapters.get(layer) for layer in own])]
        return [FusedProduct(part, self.slot) for part in parts]
