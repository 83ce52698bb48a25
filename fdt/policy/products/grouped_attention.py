"""Attention on a CPU where several query heads share one head of keys: the heads are laid out as further queries.

torch's kernel for the CPU reads keys and values once for each query head, or from a copy that repeats them as often.
Where the query heads of a group stand beside each other as queries of one head, it reads them once and gives the same
bits: a decoding step attends in a fifth of the time, and nothing that is repeated is kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fdt.policy.products.packed_attention import PackedMask, attend_packed

NAME = "fdt_grouped"
"""How transformers knows it."""


def use_grouped_attention(causal: PreTrainedModel) -> None:
    """Lets a model that was loaded with torch's attention attend in groups, where its code takes another attention."""
    if not getattr(causal, "_supports_attention_backend", False):
        return
    AttentionInterface.register(NAME, attend_grouped)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    causal.set_attn_implementation(NAME)


def reads_packs(causal: PreTrainedModel) -> bool:
    """Whether a model attends by `attend_grouped`, which knows what to do with a `PackedMask`."""
    return getattr(causal.config.get_text_config(), "_attn_implementation", None) == NAME


def attend_grouped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Queries ``[B, H, T, D]``, keys and values ``[B, h, S, D]``, mask ``[B, 1, T, S]`` to ``[B, T, H, D]``.

    What is not grouped, not on a CPU, or causal without a mask is left to transformers.
    """
    if isinstance(attention_mask, PackedMask):
        if any(map(is_given, others.items())):
            raise NotImplementedError("attention with a bias or a cap of its own, over packed rows")
        return attend_packed(query, key, value, attention_mask, dropout, scaling), None
    batch, heads, length, size = query.shape
    groups = heads // key.shape[1]
    is_open = attention_mask is not None or length == 1
    shared = attention_mask is None or attention_mask.shape[1] == 1
    if query.device.type != "cpu" or groups == 1 or not (is_open and shared) or any(map(is_given, others.items())):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    mask = attention_mask
    if mask is not None and mask.shape[2] > 1:
        rows, _, _, width = mask.shape
        mask = mask[:, :, None].expand(rows, 1, groups, length, width).reshape(rows, 1, groups * length, width)
    out = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * length, size),
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scaling,
    )
    return out.reshape(batch, heads, length, value.shape[-1]).transpose(1, 2).contiguous(), None


CHANGES = ("position_bias", "softcap", "cache")
"""Arguments by which a model changes what attention computes, and which transformers handles."""


def is_given(argument: tuple[str, Any]) -> bool:
    """Whether an argument changes what attention computes."""
    name, value = argument
    return name in CHANGES and value is not None
