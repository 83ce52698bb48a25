"""Whether weights have changed, without a second copy of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fdt.distributed import broadcast_object, gather_objects
from fdt.policy.fsdp import is_sharded, reshard
from fdt.policy.policy import Policy

PART = 1 << 22
"""Bytes that are hashed at once."""
MIX = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9)
"""Odd numbers without pattern."""


@dataclass
class WeightVersions:
    """Names a policy's weights to engines, by another name whenever they have changed."""

    count: int = 0
    """Names given so far."""
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Distinguishes this run's weights from those of another, on a server that both use."""
    name: str = ""
    """The last one."""
    _fingerprint: tuple[int, ...] | None = None

    def update(self, policy: Policy) -> str:
        """The name of the present weights, the same on all ranks. Every rank must call."""
        reshard(policy)  # a forward without gradient leaves the root gathered
        found = compute_fingerprint(policy)
        if any(gather_objects(found != self._fingerprint)):
            self.count += 1
            self._fingerprint = found
            self.name = broadcast_object(f"fdt-{self.run_id}-{self.count}")
        return self.name

    def is_whole_and_present(self, policy: Policy) -> bool:
        """Whether this rank alone holds the weights that were named last."""
        return not is_sharded(policy) and compute_fingerprint(policy) == self._fingerprint


def compute_fingerprint(policy: Policy) -> tuple[int, ...]:
    """One number of 64 bits for each trainable tensor, which changes when its values do; of sharded ones, of
    this rank's part."""
    own = [p.to_local() if isinstance(p, DTensor) else p for p in policy.get_trainable_parameters()]
    return tuple(torch.stack([compute_digest(p.detach()) for p in own]).tolist())


def compute_digest(weight: Tensor) -> Tensor:
    """Sum [] int64 of a tensor's bits, each 8 bytes times a number of their place's own: equal steps of many elements,
    as an optimiser's first, do not cancel. Computed where the tensor is, and in parts."""
    flat = weight.contiguous().view(-1)
    size = PART // weight.element_size()
    place = torch.arange(1, PART // 8 + 1, device=weight.device) * MIX[0]
    place = (place ^ (place >> 31)) * MIX[1] | 1
    found = torch.zeros((), dtype=torch.int64, device=weight.device)
    for start in range(0, len(flat), size):
        part = flat[start : start + size]
        # Padded to whole words, which also copies them to an aligned address.
        words = torch.nn.functional.pad(part, (0, -len(part) % (8 // weight.element_size()))).view(torch.int64)
        found = found * MIX[0] + (words * place[: len(words)]).sum()  # wraps, as hashes do
    return found
