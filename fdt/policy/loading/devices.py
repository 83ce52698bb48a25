"""A policy as the trainer's device asks for it: its dtype, TF32, and whether activations are recomputed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh

from fdt.distributed import run_on_first
from fdt.policy.fsdp import shard_as_asked
from fdt.policy.loading.first_rank import LoadedFacts
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy, enable_checkpointing

SHARE = 0.4
"""Of a card's free memory that activations may take: gradients, moments, the head's chunks and the cache of generation
need the rest."""


def build_policy(
    strategy: Any,
    mesh: DeviceMesh | None,
    base: str,
    lora: LoRA | None,
    dtype: str,
    gradient_checkpointing: bool | Literal["auto"],
    seed: int,
    template_variables: Mapping[str, Any] | None,
    tokens: int,
) -> Policy:
    """The policy on the device of a trainer's strategy, sharded where that asks for it.

    Args:
        strategy: Lightning's.
        mesh: of devices, where there is one.
        base, lora, dtype, seed, template_variables: as `Policy` takes them.
        gradient_checkpointing: auto recomputes activations where ``tokens`` would fill a card.
        tokens: most tokens of one forward.
    """
    device = strategy.root_device
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: more digits than bfloat16, several times as fast
    always = gradient_checkpointing is True

    def build(facts: LoadedFacts | None = None) -> Policy:
        return Policy(base, lora, dtype, always, seed, template_variables, device, facts)

    policy = build_on_first(build) if isinstance(strategy, ModelParallelStrategy) else build()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if gradient_checkpointing == "auto" and free is not None and exceeds_memory(policy.causal.config, tokens, free):
        enable_checkpointing(policy.causal)
    shard_as_asked(policy, strategy, mesh)
    return policy


def build_on_first(build: Callable[[LoadedFacts | None], Policy]) -> Policy:
    """A policy whose weights the first rank alone holds; those of other ranks lie on the meta device until
    `receive_weights`. Every rank must call.

    Args:
        build: makes a policy, without weights where it is given facts.

    Raises:
        UserError: on all ranks, where the first one could not load the model.
    """
    own: list[Policy] = []

    def load() -> LoadedFacts:
        own.append(build(None))
        return LoadedFacts(own[0].packs, own[0].causal.generation_config)

    facts = run_on_first(load)
    return own[0] if own else build(facts)


def estimate_activation_bytes(config: Any, tokens: int) -> int:
    """Bytes that autograd keeps of a forward, by the sizes of a decoder layer.

    Fitted to what autograd saved for Qwen3-4B (bfloat16 base, float32 adapters; 935 MiB a layer at 4,096 tokens) and
    Qwen2.5-7B (all weights, float32 under bf16-mixed; 1,545 MiB): 1 % above and 8 % above. Experts are not counted.
    """
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return text.num_hidden_layers * tokens * (34 * text.hidden_size + 16 * inner)


def find_longest_forward(trainer: Any, tokens: int) -> int:
    """Most tokens of one forward: a row that is longer than the budget is a micro-batch by itself."""
    return max(tokens, getattr(getattr(trainer, "datamodule", None), "max_tokens", 0))


def exceeds_memory(config: Any, tokens: int, free: int) -> bool:
    """Whether a forward of so many tokens keeps more than `SHARE` of the free bytes."""
    return estimate_activation_bytes(config, tokens) > SHARE * free
