"""LoRA: which layers get adapters, and how they start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fdt.errors import UserError


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685); held in float32 whatever the base's dtype, since small updates round away."""

    rank: int = 16
    """Rank of each adapter."""
    alpha: float = 32.0
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapter's input."""
    targets: str | list[str] = "all-linear"
    """Which linear layers get an adapter: all-linear, or a list of module names."""
    layers: list[int] | None = None
    """Only these decoder layers (None: all); with the upper ones alone the backward pass stops early."""
    activation_cache_folder: str | None = None
    """Keep the output of the frozen layers below ``layers`` in this folder, one file a row, and read it instead of
    computing it again: for replayed files, whose rows come back (about 2 KB a token for the default model)."""


def add_adapters(causal: nn.Module, lora: LoRA, seed: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_find_linear_names(causal) if lora.targets == "all-linear" else lora.targets,
        layers_to_transform=lora.layers,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(causal, config, autocast_adapter_dtype=True)


def _find_linear_names(causal: nn.Module) -> list[str]:
    # Spelt out, since PEFT takes its own "all-linear" only for all layers.
    modules = causal.get_decoder().named_modules()
    return sorted({name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, nn.Linear)})


def check_targets(causal: nn.Module, lora: LoRA | None) -> None:
    """An adapter on the head would be used when generating and missed by the chunked head when scoring."""
    head = causal.get_output_embeddings()
    names = {name.rsplit(".", 1)[-1] for name, module in causal.named_modules() if module is head}
    if lora is not None and not isinstance(lora.targets, str) and names & set(lora.targets):
        raise UserError(
            "the LM head takes no adapter", got=lora.targets, expected="decoder layers", key="model.lora.targets"
        )
