"""From a view to the hidden states that predict its target tokens: the one way into a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fdt.data.batch import View
from fdt.data.layout import Layout
from fdt.data.packing import lay_out
from fdt.policy.activation_cache import ActivationCache
from fdt.policy.products import packed_attention
from fdt.policy.products.grouped_attention import reads_packs


def is_windowed(causal: PreTrainedModel) -> bool:
    """Whether any layer attends to a window or a chunk, which a mask of our own would switch off."""
    config = causal.config.get_text_config()
    names = ("sliding_window", "attention_chunk_size", "attention_window_size")
    local = any("sliding" in kind or "chunked" in kind for kind in getattr(config, "layer_types", None) or ())
    return local or any(getattr(config, name, None) is not None for name in names)


def build_hidden_fn(
    causal: PreTrainedModel,
    activation_cache: ActivationCache | None = None,
    packs: bool = True,
    parts_from: int | None = None,
) -> Callable[[View], Tensor]:
    """A function from a view to hidden states ``[N, D]``.

    Args:
        causal: the model.
        activation_cache: holds the frozen layers, if any.
        packs: whether rows that share a prompt are read together, where no layer has a window.
        parts_from: tokens of a pack from which its attention is computed in parts; by default where that pays.
    """
    packs = packs and not is_windowed(causal)
    scale = 1.0 / float(getattr(causal.config, "logits_scaling", None) or 1.0)
    decoder = causal.get_decoder()

    def build_mask(layout: Layout) -> Tensor | None:
        if not layout.is_packed:
            return (layout.segment_ids >= 0).long() if layout.is_padded else None
        least = packed_attention.LEAST if parts_from is None else parts_from
        if layout.tokens.shape[1] >= least and activation_cache is None and reads_packs(causal):
            return packed_attention.build_packed_mask(layout)
        dtype = next(p.dtype for p in decoder.parameters() if p.is_floating_point())
        seen = layout.build_mask()
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)

    def compute_hidden(view: View) -> Tensor:
        layout = view.layout if view.layout is not None else lay_out(view, packs)
        mask = build_mask(layout)
        if activation_cache is not None:
            whole = torch.ones_like(layout.tokens) if mask is None else mask
            states = activation_cache(layout.tokens, layout.positions, layout.segment_ids, whole)
        else:
            given = {"position_ids": layout.positions} if layout.is_packed else {}
            states = decoder(input_ids=layout.tokens, attention_mask=mask, use_cache=False, **given).last_hidden_state
        chosen = states[layout.gather_index[:, 0], layout.gather_index[:, 1]]
        return chosen if scale == 1.0 else chosen * scale

    return compute_hidden
