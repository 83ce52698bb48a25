"""How the rows of a view lie in what a decoder reads: made on the CPU, so that no index is computed on a card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """tokens, positions ``[R, L]``; segment_ids ``[R, L]`` (0 context, 1… answers, -1 padding); gather_index
    ``[N, 2]``: the (row, position) whose hidden state predicts each target token, in the view's flat order; targets
    ``[N]``: those tokens. Rows that are not packed have one segment, 0."""

    tokens: Tensor
    positions: Tensor
    segment_ids: Tensor
    gather_index: Tensor
    targets: Tensor
    is_packed: bool
    """Whether rows that share a context are read together, which takes a mask of its own."""
    is_padded: bool
    """Whether any row ends before the others do."""
    spans: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = ()
    """Of each pack the tokens of its context, and where each answer begins and ends; empty where nothing is packed."""

    def build_mask(self) -> Tensor:
        """Boolean attention mask ``[R, 1, L, L]``: causal, own segment or context only; padding sees itself."""
        size = self.tokens.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=self.tokens.device).tril()
        query = self.segment_ids[:, :, None]
        key = self.segment_ids[:, None, :]
        seen = (query == key) | ((key == 0) & (query > 0))
        return (seen & causal)[:, None]

    def to(self, device: Any) -> Layout:
        """The same on a device."""
        names = ("tokens", "positions", "segment_ids", "gather_index", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})
