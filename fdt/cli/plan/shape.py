"""A model's size, from its config alone: built on the meta device, where weights have shapes and no values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fdt.cli.plan.settings import RunSettings
from fdt.errors import UserError
from fdt.policy.hub import resolve_model
from fdt.policy.lora import LoRA, add_adapters
from fdt.policy.policy import choose_dtype

PROBE = 512
"""Tokens of the row whose saved tensors are counted."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a policy."""

    parameters: int
    trainable: int
    layer_parameters: int
    """Of all decoder layers together, without adapters."""
    adapter_parameters: int
    head_parameters: int
    embedding_parameters: int
    """Of embedding and head together: the root that FSDP2 keeps gathered."""
    layers: int
    width: int
    vocabulary: int
    kv_width: int
    """Elements of keys and values of one token and layer."""
    attention_width: int
    """Heads times their size."""
    base_dtype: torch.dtype
    saved_bytes: float
    """Bytes that autograd keeps of one token in one layer."""

    @property
    def trainable_bytes(self) -> int:
        """Bytes of one copy of the trainable weights, which are float32."""
        return 4 * self.trainable


def measure_shape(settings: RunSettings) -> ModelShape:
    """
    Raises:
        UserError: where the model's config cannot be had.
    """
    config = load_config(settings.base)
    lora = None if settings.lora is None else LoRA(**settings.lora)
    dtype = choose_dtype(settings.dtype, lora)
    model: Any = build_on(torch.device("meta"), config, lora, dtype)
    causal: Any = model if lora is None else model.get_base_model()
    text = config.get_text_config()
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    layers = causal.get_decoder().layers
    adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    head, embedding = causal.get_output_embeddings().weight, causal.get_input_embeddings().weight
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        layer_parameters=sum(p.numel() for p in layers.parameters()) - adapters,
        adapter_parameters=adapters,
        head_parameters=head.numel(),
        embedding_parameters=sum({id(w): w.numel() for w in (head, embedding)}.values()),
        layers=len(layers),
        width=text.hidden_size,
        vocabulary=head.shape[0],
        kv_width=2 * (getattr(text, "num_key_value_heads", None) or heads) * size,
        attention_width=heads * size,
        base_dtype=dtype,
        saved_bytes=count_saved_bytes(causal, settings.precision) / PROBE / len(layers),
    )


def load_config(base: str) -> Any:
    """The model's config, without its weights."""
    try:
        return AutoConfig.from_pretrained(resolve_model(base))
    except (OSError, ValueError) as fault:
        raise UserError(
            f"no config of {base!r}: {str(fault).strip().splitlines()[0]}",
            key="model.base",
            remedy="name a folder that holds config.json (no weights are needed) or a hub id",
        ) from fault


def build_on(device: torch.device, config: Any, lora: LoRA | None, dtype: torch.dtype) -> nn.Module:
    """The model of a config with its adapters, its weights random or, on the meta device, none."""
    ALL_ATTENTION_FUNCTIONS["fdt_plan"] = attend
    attention = "fdt_plan" if device.type == "meta" else "sdpa"
    with device:
        causal = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
        return causal if lora is None else add_adapters(causal, lora, 0)


class _Attention(torch.autograd.Function):
    """Keeps what a fused attention kernel keeps: queries, keys, values, the output and one number a row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("shapes alone")


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **_: Any) -> tuple[Tensor, None]:
    """Attention by shapes: [B, heads, T, size] to [B, T, heads, size]."""
    return _Attention.apply(query, key, value).transpose(1, 2).contiguous(), None


def count_saved_bytes(causal: Any, precision: str) -> int:
    """Bytes that autograd keeps of `PROBE` tokens in all layers: each storage once, weights not at all."""
    weights = {p.untyped_storage()._cdata for p in causal.parameters()}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            seen[storage._cdata] = storage.nbytes()
            kept.append(tensor)  # else another one could take its place in memory, and its number
        return tensor

    low = "bf16" in precision and causal.dtype == torch.float32
    states = torch.empty(1, PROBE, causal.config.get_text_config().hidden_size, device="meta", dtype=causal.dtype)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if low:
            with torch.autocast("cpu", torch.bfloat16):
                causal.get_decoder()(inputs_embeds=states.requires_grad_(), use_cache=False)
        else:
            causal.get_decoder()(inputs_embeds=states.requires_grad_(), use_cache=False)
    return sum(seen.values())
