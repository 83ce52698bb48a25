"""Products with frozen weights that read the same input (queries, keys and values; gate and up), made as one, and the
adapters of all of them in two more.

A decoder that writes one token for a few rows spends half the time of its products on starting them: with rank 16, an
adapter's two products take as long as the one that they are added to. The frozen weights stand one below the other in
the layout that oneDNN's kernels want; the matrices A of the adapters stand below each other too, and their B along a
diagonal of blocks, whose zeros cost less than the products that they save.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fdt.policy.products.adapted_linear import AdaptedLinear

WIDEST = 1 / 8
"""Most columns of the matrix of blocks, as a share of the input's width: more zeros would slow reading prompts."""


class Slot:
    """What the last product has not handed out yet; one for all layers, so that few outputs are kept."""

    def __init__(self) -> None:
        self.owner: FusedProduct | None = None
        self.given: Tensor | None = None
        self.version = -1
        self.parts: dict[int, Tensor] = {}

    def clear(self) -> None:
        """Lets go of input and outputs."""
        self.owner = None
        self.given = None
        self.parts = {}


class FusedProduct:
    """``x W' + b + x A' B'`` for linear layers with frozen weights that read the same input, each with or without an
    adapter.

    Args:
        layers: whose weights are copied, one below the other; all have a bias, or none.
        slot: where the outputs wait until their layers ask for them.
    """

    def __init__(self, layers: Sequence[nn.Linear], slot: Slot) -> None:
        self.layers = layers
        self.slot = slot
        self.sizes = [layer.out_features for layer in layers]
        self.held: list[Tensor] = []  # so that no other tensor gets the identity of one that was read
        self.state: list[tuple[int, int, int]] = []
        self.packed: Tensor | None = None
        self.bias: Tensor | None = None
        self.factors: tuple[Tensor, Tensor] | None = None

    def refresh(self, adapters: Sequence[AdaptedLinear | None]) -> None:
        """Lays weights out anew where one was changed since, and adapters in any case, one of each layer or None."""
        held = [tensor for layer in self.layers for tensor in (layer.weight, layer.bias) if tensor is not None]
        state = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in held]
        if state != self.state:
            weights = [layer.weight.detach() for layer in self.layers]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), None)
            biases = [layer.bias.detach() for layer in self.layers if layer.bias is not None]
            self.bias = torch.cat(biases) if biases else None
            self.held = held
            self.state = state
        self.factors = self._join_factors(adapters)

    def _join_factors(self, adapters: Sequence[AdaptedLinear | None]) -> tuple[Tensor, Tensor] | None:
        """All A ``[sum of r, in]``, and all scaled B in blocks ``[sum of out, sum of r]``."""
        if not any(adapters):
            return None
        weight = self.layers[0].weight
        first: list[Tensor] = []
        second: list[Tensor] = []
        for layer, adapter in zip(self.layers, adapters, strict=True):
            if adapter is None:
                second.append(weight.new_zeros(layer.out_features, 0))
                continue
            a, b = adapter.get_scaled_factors(weight.dtype)
            first.append(a.detach())
            second.append(b.detach())
        return torch.cat(first), torch.block_diag(*second)

    def multiply(self, x: Tensor) -> Tensor:
        """Outputs ``[..., sum of out]`` of all layers beside each other."""
        product: Any = torch.ops.mkldnn._linear_pointwise
        found: Tensor = product(x, self.packed, self.bias, "none", [], "")
        if self.factors is None:
            return found
        first, second = self.factors
        narrow = product(x, first, None, "none", [], "")
        added: Tensor = product.binary(narrow, found, second, None, "add")
        return added

    def get_part(self, place: int, x: Tensor) -> Tensor:
        """The output ``[..., out]`` of a layer: from the last product where that read the same input, else all anew."""
        if len(self.layers) == 1:
            return self.multiply(x)
        slot = self.slot
        version = get_version(x)
        if slot.owner is not self or slot.given is not x or slot.version != version or place not in slot.parts:
            slot.owner = self
            slot.given = x
            slot.version = version
            slot.parts = dict(enumerate(self.multiply(x).split(self.sizes, dim=-1)))
        part = slot.parts.pop(place)
        if not slot.parts:
            slot.clear()
        return part


def get_version(tensor: Tensor) -> int:
    """How often a tensor was written over; 0 for those of inference mode, which do not count it."""
    return 0 if tensor.is_inference() else tensor._version


def find_shared_inputs(causal: Any, layers: Sequence[nn.Linear]) -> list[list[nn.Linear]]:
    """The layers in groups that read the same tensor, found by a forward over one token. A layer that is not called
    once, and those of which some have a bias and some have none, stand alone."""
    calls: list[tuple[nn.Module, Tensor, int]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.append((layer, given[0], get_version(given[0])))

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.inference_mode(False), torch.no_grad():
            causal(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    counts = Counter(layer for layer, _, _ in calls)
    inputs = {layer: (id(given), version) for layer, given, version in calls if counts[layer] == 1}
    groups: dict[object, list[nn.Linear]] = {}
    for layer in layers:
        key = (inputs[layer], layer.bias is None) if layer in inputs else layer
        groups.setdefault(key, []).append(layer)
    return list(groups.values())


def split_wide(group: Sequence[nn.Linear], adapters: Sequence[AdaptedLinear | None]) -> list[list[nn.Linear]]:
    """A group as it is, or each layer by itself where their adapters' ranks add up to too much."""
    ranks = sum(adapter.get_rank() for adapter in adapters if adapter is not None)
    if ranks <= WIDEST * group[0].in_features:
        return [list(group)]
    return [[layer] for layer in group]
