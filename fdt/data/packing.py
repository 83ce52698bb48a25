"""Rows that share a prompt are read once: one context, several answers, none of which attends to another.

A group of G answers to one prompt costs ``prompt + G·answer`` tokens instead of ``G·(prompt + answer)``. Nothing else
changes: each answer keeps its own positions and attends to its prompt and to itself, so log-probs and gradients are
those of separate rows (tests compare them). Rows are packed only where that reads fewer tokens, padding included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from fdt.data.batch import Batch, View
from fdt.data.layout import Layout

LIMIT = 4096
"""Most tokens of a pack of several rows: its attention mask is quadratic. Cutting and packing both keep it."""


@dataclass(frozen=True)
class PackedSize:
    """What a decoder reads for some rows, counted as rows are added, groups of one context after another."""

    packs: int = 0
    last: int = 0
    """Tokens of the last pack."""
    widest: int = 0
    rows: int = 0
    width: int = 0
    """Tokens of the longest row."""

    def add_row(self, length: int, context: int, joins: bool) -> PackedSize:
        """One row more; ``joins`` where the row before it has the same context."""
        fits = joins and self.last + length - context <= LIMIT
        last = self.last + length - context if fits else length
        return PackedSize(self.packs + (not fits), last, max(self.widest, last), self.rows + 1, max(self.width, length))

    @property
    def tokens(self) -> int:
        """Tokens read, padding included: packed or row by row, whichever is less."""
        return min(self.packs * self.widest, self.rows * self.width)


def group_by_context(view: View) -> list[list[int]]:
    """Rows of equal context (everything before the first target token), in order of first appearance."""
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    contexts = view.context_lengths.tolist()
    for row, ids in enumerate(view.tokens.tolist()):
        found[tuple(ids[: contexts[row]])].append(row)
    return list(found.values())


def lay_out(view: View, packs: bool = True) -> Layout:
    """What a decoder reads of a view.

    Args:
        view: B rows.
        packs: whether the model can read rows of one context together.
    """
    if packs:
        planned = plan_packs(view)
        if planned is not None:
            return fill_packs(view, planned)
    positions = torch.arange(view.tokens.shape[1], device=view.tokens.device).expand_as(view.tokens)
    alive = positions < view.lengths[:, None]
    index = view.target[:, 1:].nonzero()
    padded = bool((view.lengths < view.tokens.shape[1]).any())
    return Layout(view.tokens, positions, alive.long() - 1, index, view.tokens[view.target], False, padded)


def lay_out_batch(batch: Batch, packs: bool) -> Batch:
    """The batch with both views laid out, for a later move to another device."""
    student = replace(batch.student, layout=lay_out(batch.student, packs))
    if batch.teacher is None:
        return replace(batch, student=student)
    teacher = replace(batch.teacher, layout=lay_out(batch.teacher, packs))
    return replace(batch, student=student, teacher=teacher, taught=batch.teacher_tokens)


def plan_packs(view: View, limit: int = LIMIT) -> list[list[int]] | None:
    """The rows of each pack, or None where reading row by row reads no more."""
    first = view.context_lengths.tolist()
    lengths = view.lengths.tolist()
    packs: list[list[int]] = []
    sizes: list[int] = []
    for group in group_by_context(view):
        for number, row in enumerate(group):
            cost = lengths[row] - first[row]
            if not number or sizes[-1] + cost > limit:
                packs.append([])
                sizes.append(first[row])
            packs[-1].append(row)
            sizes[-1] += cost
    return packs if len(packs) * max(sizes) < len(lengths) * max(lengths) else None


def pack(view: View, limit: int = LIMIT) -> Layout:
    """Packs rows with one context together, if need be into several packs of at most ``limit`` tokens."""
    return fill_packs(view, plan_packs(view, limit) or [[row] for row in range(len(view.lengths))])


def fill_packs(view: View, packs: Sequence[Sequence[int]]) -> Layout:
    """The packs' tokens; rows of one pack have one context."""
    device = view.tokens.device
    first = view.context_lengths.tolist()
    lengths = view.lengths.tolist()
    width = max(first[rows[0]] + sum(lengths[r] - first[r] for r in rows) for rows in packs)
    tokens = torch.zeros(len(packs), width, dtype=torch.long, device=device)
    positions = torch.zeros_like(tokens)
    segment = torch.full_like(tokens, -1)
    source = torch.zeros(view.tokens.shape + (2,), dtype=torch.long, device=device)
    spans = []
    for number, rows in enumerate(packs):
        end = first[rows[0]]
        ends = [end]
        tokens[number, :end] = view.tokens[rows[0], :end]
        positions[number, :end] = torch.arange(end, device=device)
        segment[number, :end] = 0
        for segment_id, row in enumerate(rows, 1):
            start = first[row]
            size = lengths[row] - start
            tokens[number, end : end + size] = view.tokens[row, start : start + size]
            positions[number, end : end + size] = torch.arange(start, start + size, device=device)
            segment[number, end : end + size] = segment_id
            _point_back(source[row], number, start, end, size)
            end += size
            ends.append(end)
        spans.append((ends[0], tuple(pairwise(ends))))
    targets = view.tokens[view.target]
    return Layout(tokens, positions, segment, source[view.target], targets, True, True, tuple(spans))


def _point_back(source: Tensor, pack: int, start: int, end: int, size: int) -> None:
    """Where the hidden state lies that predicts each token of an answer: the token at row position t is predicted from
    that at t-1, which for the first one is the context's last."""
    source[start : start + size, 0] = pack
    source[start : start + size, 1] = torch.arange(end - 1, end + size - 1, device=source.device)
    if size:
        source[start, 1] = start - 1
