"""LoRA: which layers get adapters, and how they start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fdt.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel


LAYER = re.compile(r"^.*?\.\d+\.")
SMALL_SHARE = 0.02
"""Frozen weights of no greater share (convolutions, routers) are not worth a warning."""


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
    parameters: list[str] | None = None
    """Weights that belong to no linear layer and get an adapter too, by the ends of their names: fused experts, such as
    mlp.experts.gate_up_proj. They need dropout 0."""
    activation_cache_folder: str | None = None
    """Keep the output of the frozen layers below ``layers`` in this folder, one file a row, and read it instead of
    computing it again: for replayed files, whose rows come back (about 2 KB a token for the default model)."""


def add_adapters(causal: PreTrainedModel, lora: LoRA, seed: int) -> PeftModel:
    """The model with adapters; their initial values are those of ``seed`` on every rank."""
    from peft import LoraConfig, PeftModel, get_peft_model

    from fdt.policy.products.adapted_linear import adapt_forwards

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides by it: any number will do
        lora_dropout=lora.dropout,
        target_modules=find_module_names(causal, nn.Linear) if lora.targets == "all-linear" else lora.targets,
        layers_to_transform=lora.layers,
        target_parameters=lora.parameters,
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = get_peft_model(causal, config, autocast_adapter_dtype=True)
    except ValueError as fault:  # such as names or layers that the model does not have
        raise UserError(
            f"no adapters on this model: {fault}",
            got=f"targets {lora.targets}, layers {lora.layers}, parameters {lora.parameters}",
            expected="layers that it has: " + ", ".join(find_module_names(causal, nn.Linear)),
            key="model.lora",
        ) from fault
    assert isinstance(model, PeftModel)
    adapt_forwards(model)
    return model


def find_module_names(causal: PreTrainedModel, kind: type[nn.Module]) -> list[str]:
    """The last parts of the names of a decoder's modules of a kind, since PEFT takes its "all-linear" for all layers
    only."""
    modules = causal.get_decoder().named_modules()
    return sorted({name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, kind)})


def report_frozen(causal: PreTrainedModel, lora: LoRA | None) -> None:
    """Warns where ``all-linear`` leaves matrices of the decoder without an adapter, and says how they get one."""
    if lora is None or lora.targets != "all-linear":
        return
    left = find_fused_weights(causal, lora)
    total = sum(p.numel() for p in causal.get_decoder().parameters())
    share = sum(left.values()) / max(total, 1)
    if share > SMALL_SHARE:
        names = sorted(left)
        rank_zero_warn(
            f"model.lora.targets all-linear leaves {share:.0%} of the decoder's weights frozen, which are no linear "
            f"layers: {', '.join(names)}. Name them in model.lora.parameters to train them as well."
        )


def find_fused_weights(causal: PreTrainedModel, lora: LoRA) -> dict[str, int]:
    """Elements of the decoder's matrices that belong to no linear layer and no embedding (fused experts), by the end of
    their names; those that have an adapter already are left out."""
    found: dict[str, int] = {}
    for path, module in causal.get_decoder().named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            # Layers are numbered: what follows the number is the same in each.
            end = LAYER.sub("", f"{path}.{name}")
            if parameter.dim() > 1 and not any(end.endswith(given) for given in lora.parameters or ()):
                found[end] = found.get(end, 0) + parameter.numel()
    return found


def check_targets(causal: PreTrainedModel, lora: LoRA | None) -> None:
    """
    Raises:
        UserError: where ``all-linear`` finds nothing, or the head gets an adapter, which generation would use and the
            chunked head would miss.
    """
    if lora is not None and lora.targets == "all-linear" and not find_module_names(causal, nn.Linear):
        others = find_module_names(causal, Conv1D)
        raise UserError(
            "all-linear finds no linear layer (torch.nn.Linear) in this model",
            got=f"{causal.config.model_type}, with layers of another class"
            + (f": {', '.join(others)}" if others else ""),
            expected="a model of linear layers, names of layers that take adapters, or no adapters",
            key="model.lora.targets",
            remedy=(f"Set model.lora.targets [{', '.join(others)}]" if others else "Set model.lora null")
            + ", or train another model.",
        )
    head = causal.get_output_embeddings()
    names = {name.rsplit(".", 1)[-1] for name, module in causal.named_modules() if module is head}
    if lora is not None and not isinstance(lora.targets, str) and names & set(lora.targets):
        raise UserError(
            "the LM head takes no adapter", got=lora.targets, expected="decoder layers", key="model.lora.targets"
        )
