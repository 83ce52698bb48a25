"""LoRA: which layers get adapters, and how they start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from fdt.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685), in float32 whatever the base's dtype: small updates would round away."""

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


def add_adapters(causal: PreTrainedModel, lora: LoRA, seed: int) -> PeftModel:
    """The model with adapters; their initial values are those of ``seed`` on every rank."""
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides by it: any number will do
        lora_dropout=lora.dropout,
        target_modules=_find_linear_names(causal) if lora.targets == "all-linear" else lora.targets,
        layers_to_transform=lora.layers,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(causal, config, autocast_adapter_dtype=True)
    assert isinstance(model, PeftModel)
    return model


def _find_linear_names(causal: PreTrainedModel) -> list[str]:
    # Spelt out, since PEFT takes its own "all-linear" only for all layers.
    modules = causal.get_decoder().named_modules()
    return sorted({name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, nn.Linear)})


def check_targets(causal: PreTrainedModel, lora: LoRA | None) -> None:
    """
    Raises:
        UserError: where the head gets an adapter, which generation would use and the chunked head would miss.
    """
    head = causal.get_output_embeddings()
    names = {name.rsplit(".", 1)[-1] for name, module in causal.named_modules() if module is head}
    if lora is not None and not isinstance(lora.targets, str) and names & set(lora.targets):
        raise UserError(
            "the LM head takes no adapter", got=lora.targets, expected="decoder layers", key="model.lora.targets"
        )
