"""Rows that share a prompt are read once: one context, several answers, none of which attends to another.

A group of G answers to one prompt costs ``prompt + G·answer`` tokens instead of ``G·(prompt + answer)``. Nothing else
changes: each answer keeps its own positions and attends to its prompt and to itself, so log-probs and gradients are
those of separate rows (tests compare them).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from fdt.data.batch import View


@dataclass(frozen=True)
class PackedRows:
    """tokens, positions ``[R, L]``; segment_ids ``[R, L]`` (0 context, 1… answers, -1 padding); gather_index
    ``[N, 2]``: the packed (row, position) whose hidden state predicts each target token, in the view's flat order."""

    tokens: Tensor
    positions: Tensor
    segment_ids: Tensor
    gather_index: Tensor

    def build_mask(self) -> Tensor:
        """Boolean attention mask ``[R, 1, L, L]``: causal, own segment or context only; padding sees itself."""
        size = self.tokens.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=self.tokens.device).tril()
        query = self.segment_ids[:, :, None]
        key = self.segment_ids[:, None, :]
        seen = (query == key) | ((key == 0) & (query > 0))
        return (seen & causal)[:, None]


def group_by_context(view: View) -> list[list[int]]:
    """Rows of equal context (everything before the first target token), in order of first appearance."""
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    contexts = view.context_lengths.tolist()
    for row, ids in enumerate(view.tokens.tolist()):
        found[tuple(ids[: contexts[row]])].append(row)
    return list(found.values())


def pack(view: View, limit: int = 4096) -> PackedRows:
    """Packs rows with one context together; a pack never grows beyond ``limit`` tokens (its mask is quadratic)."""
    first = view.context_lengths.tolist()
    lengths = view.lengths.tolist()
    packs: list[list[int]] = []
    for group in group_by_context(view):
        size = limit
        for row in group:
            cost = lengths[row] - first[row]
            if size + cost > limit:
                packs.append([])
                size = first[row]
            packs[-1].append(row)
            size += cost
    width = max(first[rows[0]] + sum(lengths[r] - first[r] for r in rows) for rows in packs)
    return _fill(view, packs, width)


def _fill(view: View, packs: list[list[int]], width: int) -> PackedRows:
    device = view.tokens.device
    tokens = torch.zeros(len(packs), width, dtype=torch.long, device=device)
    positions = torch.zeros_like(tokens)
    segment = torch.full_like(tokens, -1)
    source = torch.zeros(view.tokens.shape + (2,), dtype=torch.long, device=device)
    first = view.context_lengths.tolist()
    lengths = view.lengths.tolist()
    for number, rows in enumerate(packs):
        end = first[rows[0]]
        tokens[number, :end] = view.tokens[rows[0], :end]
        positions[number, :end] = torch.arange(end, device=device)
        segment[number, :end] = 0
        for segment_id, row in enumerate(rows, 1):
            start = first[row]
            size = lengths[row] - start
            tokens[number, end : end + size] = view.tokens[row, start : start + size]
            positions[number, end : end + size] = torch.arange(start, start + size, device=device)
            segment[number, end : end + size] = segment_id
            # The token at row position t is predicted from the hidden state at t-1: the context's last for t = start.
            source[row, start : start + size, 0] = number
            source[row, start : start + size, 1] = torch.arange(end - 1, end + size - 1, device=device)
            if size:
                source[row, start, 1] = start - 1
            end += size
    return PackedRows(tokens, positions, segment, source[view.target])
