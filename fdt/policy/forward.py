"""From a view to the hidden states that predict its target tokens: the one way into a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fdt.data.batch import View
from fdt.data.packing import group_by_context, pack
from fdt.policy.activation_cache import ActivationCache


def is_windowed(causal: PreTrainedModel) -> bool:
    """Whether any layer attends to a window or a chunk, which a mask of our own would switch off."""
    config = causal.config.get_text_config()
    names = ("sliding_window", "attention_chunk_size", "attention_window_size")
    local = any("sliding" in kind or "chunked" in kind for kind in getattr(config, "layer_types", None) or ())
    return local or any(getattr(config, name, None) is not None for name in names)


def build_hidden_fn(
    causal: PreTrainedModel, activation_cache: ActivationCache | None = None, packs: bool = True
) -> Callable[[View], Tensor]:
    """A function from a view to hidden states ``[N, D]``.

    Args:
        causal: the model.
        activation_cache: holds the frozen layers, if any.
        packs: whether rows that share a prompt are read together, where no layer has a window.
    """
    apart = not packs or is_windowed(causal)
    scale = 1.0 / float(getattr(causal.config, "logits_scaling", None) or 1.0)
    decoder = causal.get_decoder()

    def forward_rows(view: View) -> Tensor:
        position = torch.arange(view.tokens.shape[1], device=view.tokens.device)
        alive = position < view.lengths[:, None]
        if activation_cache is not None:
            positions = position.expand_as(view.tokens)
            states = activation_cache(view.tokens, positions, alive.long() - 1, alive.long())
        else:
            states = decoder(input_ids=view.tokens, attention_mask=alive.long(), use_cache=False).last_hidden_state
        return states[:, :-1][view.target[:, 1:]]

    def forward_packed(view: View) -> Tensor:
        made = pack(view)
        dtype = next(p.dtype for p in decoder.parameters() if p.is_floating_point())
        seen = made.build_mask()
        mask = torch.zeros(seen.shape, dtype=dtype, device=view.tokens.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        if activation_cache is not None:
            states = activation_cache(made.tokens, made.positions, made.segment_ids, mask)
        else:
            states = decoder(
                input_ids=made.tokens, attention_mask=mask, position_ids=made.positions, use_cache=False
            ).last_hidden_state
        return states[made.gather_index[:, 0], made.gather_index[:, 1]]

    def compute_hidden(view: View) -> Tensor:
        alone = apart or len(group_by_context(view)) == len(view.lengths)
        chosen = forward_rows(view) if alone else forward_packed(view)
        return chosen if scale == 1.0 else chosen * scale

    return compute_hidden
