"""Weights that only the first rank reads: the others build the model without any, and each module gets its own on the
way to its shards.

A rank that loads the whole model before it is sharded needs as much main memory as the model takes, and so does each of
its neighbours: 7B in float32 on eight ranks would be 244 GB. Here it is that once, and one decoder layer on each rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fdt.distributed import is_distributed


@dataclass(frozen=True)
class LoadedFacts:
    """What the first rank found out about the model that it loaded, and the others cannot without its weights."""

    packs: bool
    """Whether rows that share a prompt may be read together."""
    generation_config: Any
    """Transformers' settings of generation, which name the ids that end an answer."""


def build_empty(folder: str, dtype: torch.dtype, facts: LoadedFacts) -> PreTrainedModel:
    """The causal LM of a folder without its weights, in evaluation mode as a loaded one is."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    causal.generation_config = facts.generation_config
    return causal.eval()


def receive_weights(module: nn.Module, device: torch.device) -> None:
    """Puts the first rank's parameters and buffers into a module, one broadcast each; what is sharded already is left.
    Every rank must call.

    Args:
        module: whole on the first rank, with or without values on others.
        device: where they go.
    """
    if not is_distributed():
        return
    # By the tensor whose place it takes: tied weights are sent once and stay tied. Both are kept, so that no number
    # of one that is gone comes up again.
    received: dict[int, tuple[Tensor, Tensor]] = {}
    for owner in module.modules():
        stores: tuple[dict[str, Any], ...] = (owner._parameters, owner._buffers)
        for own in stores:
            for name, tensor in own.items():
                if tensor is None or isinstance(tensor, DTensor):
                    continue
                if id(tensor) not in received:
                    received[id(tensor)] = tensor, _receive(tensor, device)
                own[name] = received[id(tensor)][1]


def _receive(tensor: Tensor, device: torch.device) -> Tensor:
    """The first rank's values of a tensor, as bytes: no backend has to know the dtype."""
    empty = tensor.is_meta
    value = torch.empty(tensor.shape, dtype=tensor.dtype, device=device) if empty else tensor.detach().to(device)
    value = value.contiguous()
    if value.numel():
        dist.broadcast(value.view(-1).view(torch.uint8), src=0)
    return nn.Parameter(value, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
