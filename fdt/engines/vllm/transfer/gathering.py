"""The policy's whole weights one after the other, gathered from shards on the way, and how many go at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fdt.engines.vllm.transfer.staging import align
from fdt.errors import UserError
from fdt.policy.policy import Policy

Named = tuple[str, Tensor]


def iterate_weights(policy: Policy, dtype: torch.dtype) -> Iterator[Named]:
    """Each weight once, whole, under the name that the model's files have for it. Every rank must call, and go on to
    the end: shards are gathered on the way.

    Raises:
        UserError: where a file's tensors are put together from several of the model's.
    """
    from transformers.core_model_loading import WeightConverter, revert_weight_conversion

    causal: Any = policy.causal  # its class, of transformers, knows how its files name weights
    if any(isinstance(one, WeightConverter) for one in getattr(causal, "_weight_conversions", None) or []):
        raise UserError(
            "this model's files hold its weights in other pieces than the trainer does",
            got=type(causal).__name__,
            key="data.engine.init_args.weight_transfer",
            remedy="set weight_transfer: folder",
        )
    for name, value in list_weights(policy):
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        found = whole.detach().to(dtype if whole.is_floating_point() else whole.dtype)
        yield from revert_weight_conversion(causal, {name: found}).items()


def list_weights(policy: Policy) -> list[Named]:
    """The tensors of the model's files, shards as they are; one that is tied to another stands once."""
    model = policy.causal
    named = dict(model.named_parameters())  # a tied one under its first name
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in model.state_dict().items() if name not in parameters}
    return [*named.items(), *buffers.items()]


def measure_bucket(policy: Policy, dtype: torch.dtype, bucket: int) -> int:
    """Bytes of the largest bucket."""
    kinds = [(value.numel(), dtype if value.is_floating_point() else value.dtype) for _, value in list_weights(policy)]
    sizes = [align(count * kind.itemsize) for count, kind in kinds]
    return max(min(bucket, sum(sizes)), *sizes)


def split_into_buckets(weights: Iterable[Named], size: int) -> Iterator[list[Named]]:
    """The weights in order, as many at once as ``size`` bytes hold; at least one."""
    bucket: list[Named] = []
    taken = 0
    for name, weight in weights:
        need = align(weight.numel() * weight.element_size())
        if bucket and taken + need > size:
            yield bucket
            bucket, taken = [], 0
        bucket.append((name, weight))
        taken += need
    if bucket:
        yield bucket
