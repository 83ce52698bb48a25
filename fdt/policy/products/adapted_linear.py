"""The forward of a linear layer with an adapter, in the layer's own dtype over float32 adapters.

PEFT casts the input of every adapted layer to the adapter's dtype, which over a bfloat16 base is a float32 copy of all
activations for each layer, kept for the backward pass. Here the adapter's small matrices are cast instead. Their
gradients arrive in float32 all the same, since the cast is part of the graph; products are summed in float32 by the
kernels. Whatever is not a plain adapter is left to PEFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn


class AdaptedLinear(PeftLinear):
    """``x W' + b + scale * dropout(x) A' B'`` as one product and one that adds to it; made of PEFT's own layer by
    ``adapt_forwards``."""

    cast: tuple[Tensor, Tensor] | None = None
    """A and B in the base's dtype while no weight changes; None: cast at each forward."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not self._is_plain():
            return super().forward(x, *args, **kwargs)
        name = self.active_adapters[0]
        result: Tensor = self.base_layer(x)
        given: Tensor = self.lora_dropout[name](x).to(result.dtype)
        if self.cast is not None:
            first, second = self.cast
        else:
            first, second = self.get_factors(result.dtype)
        narrow = F.linear(given, first)
        flat = torch.addmm(result.flatten(0, -2), narrow.flatten(0, -2), second.T, alpha=self.scaling[name])
        return flat.view(result.shape)

    def get_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A ``[r, in]`` and B ``[out, r]`` of the adapter, in a dtype."""
        name = self.active_adapters[0]
        first: Any = self.lora_A[name].weight
        second: Any = self.lora_B[name].weight
        return first.to(dtype), second.to(dtype)

    def get_scaled_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A ``[r, in]`` and scale · B ``[out, r]`` of the adapter, in a dtype."""
        name = self.active_adapters[0]
        first: Any = self.lora_A[name].weight
        second: Any = self.lora_B[name].weight
        return first.to(dtype), (self.scaling[name] * second).to(dtype)

    def get_rank(self) -> int:
        """r of the adapter."""
        return int(self.r[self.active_adapters[0]])

    def is_linear(self) -> bool:
        """Whether the adapter adds ``scale * x A' B'`` and nothing else: no dropout now, none of PEFT's variants."""
        if not self._is_plain():
            return False
        return not self.training or isinstance(self.lora_dropout[self.active_adapters[0]], nn.Identity)

    def _is_plain(self) -> bool:
        active = self.active_adapters
        if self.disable_adapters or self.merged or len(active) != 1 or active[0] not in self.lora_A:
            return False
        name = active[0]
        return name not in self.lora_variant and self.lora_B[name].bias is None


@contextmanager
def cast_factors(model: nn.Module) -> Iterator[None]:
    """While this lasts, adapters multiply with copies that were cast once, but for those whose layer has got another
    product. No gradient passes."""
    layers = [m for m in model.modules() if isinstance(m, AdaptedLinear) and "forward" not in vars(m)]
    with torch.no_grad():
        for layer in layers:
            weight: Any = layer.base_layer.weight
            layer.cast = layer.get_factors(weight.dtype)
    try:
        yield
    finally:
        for layer in layers:
            layer.cast = None


def find_linear_adapters(model: nn.Module) -> dict[nn.Module, AdaptedLinear]:
    """Adapters that could be computed elsewhere, by the layer that they are added to."""
    layers = (module for module in model.modules() if isinstance(module, AdaptedLinear))
    return {layer.base_layer: layer for layer in layers if layer.is_linear()}


def adapt_forwards(model: nn.Module) -> None:
    """Gives PEFT's linear layers over ``nn.Linear`` the forward above; other kinds (quantised, convolutions) keep
    theirs."""
    for module in model.modules():
        if type(module) is PeftLinear and type(module.base_layer) is nn.Linear:
            module.__class__ = AdaptedLinear
