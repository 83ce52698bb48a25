"""Attention of rows that share a prompt, without a mask of the pack's size.

In a pack each answer attends to its prompt and to itself (`fdt.data.packing`). As one mask over the pack that is
[L, L], most of it forbidden: G answers are compared with one another for nothing. Here the prompt attends causally to
itself, and the answers are a batch of G that attend to the prompt and to themselves, under one small mask [A, c + A].
The same numbers are added up in another order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fdt.data.layout import Layout

LEAST = 512
"""Tokens of a pack from which this pays; below, one product under a mask takes fewer calls than parts without."""


@dataclass(frozen=True)
class Part:
    """One pack: where its answers lie, and where what was computed for them goes."""

    context: int
    """Tokens of the prompt."""
    place: Tensor
    """Positions in the pack of each answer's tokens ``[G, A]``; the prompt's last where an answer is shorter."""
    kept: Tensor
    """Places in that table, flattened, of the answers' tokens in the pack's order ``[n]``."""
    mask: Tensor
    """What an answer's token sees of prompt and answer ``[A, c + A]``."""


class PackedMask(Tensor):
    """Goes through a model in the place of a mask, and tells `fdt.policy.products.grouped_attention` how packs lie. Its
    own content is of no meaning."""

    parts: tuple[Part, ...]


def build_packed_mask(layout: Layout) -> PackedMask:
    """The stand-in for the mask of a packed layout, ``[R, 1, 1, 1]``."""
    device = layout.tokens.device
    tables = [_place_answers(context, answers) for context, answers in layout.spans]
    numbers = torch.cat([table.flatten() for pair in tables for table in pair]).to(device)  # one transfer for all
    parts, start = [], 0
    for (context, _), (place, kept) in zip(layout.spans, tables, strict=True):
        middle, end = start + place.numel(), start + place.numel() + kept.numel()
        width = place.shape[1]
        mask = torch.ones(width, context + width, dtype=torch.bool, device=device).tril(context)
        parts.append(Part(context, numbers[start:middle].view_as(place), numbers[middle:end], mask))
        start = end
    stand_in = torch.zeros(len(layout.spans), 1, 1, 1, dtype=torch.bool, device=device).as_subclass(PackedMask)
    stand_in.parts = tuple(parts)
    return stand_in


def _place_answers(context: int, answers: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """`Part.place` and `Part.kept`, on the CPU."""
    width = max(end - start for start, end in answers)
    steps = torch.arange(width)
    starts = torch.tensor([start for start, _ in answers])[:, None]
    sizes = torch.tensor([end - start for start, end in answers])[:, None]
    place = torch.where(steps < sizes, starts + steps, max(0, context - 1))
    return place, (steps < sizes).flatten().nonzero()[:, 0]


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, mask: PackedMask, dropout: float, scaling: float | None
) -> Tensor:
    """Queries ``[R, H, L, D]``, keys and values ``[R, h, L, D]`` to ``[R, L, H, D]``; 0 at padding."""
    found = []
    for row, part in enumerate(mask.parts):
        q, k, v = (tensor[row : row + 1] for tensor in (query, key, value))
        pieces = [_attend_answers(q, k, v, part, dropout, scaling)]
        if part.context:
            own = scaled_dot_product_attention(
                q[:, :, : part.context],
                k[:, :, : part.context],
                v[:, :, : part.context],
                dropout_p=dropout,
                is_causal=True,
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            pieces.insert(0, own[0].transpose(0, 1))
        rest = query.shape[2] - sum(len(piece) for piece in pieces)
        found.append(torch.nn.functional.pad(torch.cat(pieces), (0, 0, 0, 0, 0, rest)))
    return torch.stack(found)


def _attend_answers(
    query: Tensor, key: Tensor, value: Tensor, part: Part, dropout: float, scaling: float | None
) -> Tensor:
    """The answers of one pack, ``[n, H, D]`` in the pack's order. The query heads of a group stand beside each other as
    queries of one head, so that keys are repeated for answers alone."""
    count, width = part.place.shape
    heads, shared, size = query.shape[1], key.shape[1], query.shape[3]
    groups = heads // shared

    def gather(tensor: Tensor) -> Tensor:
        """The answers' tokens ``[G, heads, A, D]``."""
        return tensor[0].index_select(1, part.place.flatten()).unflatten(1, (count, width)).transpose(0, 1)

    def extend(tensor: Tensor) -> Tensor:
        """The prompt's tokens before each answer's ``[G, heads, c + A, D]``."""
        return torch.cat([tensor[:, :, : part.context].expand(count, -1, -1, -1), gather(tensor)], dim=2)

    out = scaled_dot_product_attention(
        gather(query).reshape(count, shared, groups * width, size),
        extend(key),
        extend(value),
        attn_mask=part.mask.repeat(groups, 1)[None, None],
        dropout_p=dropout,
        scale=scaling,
    )
    flat = out.reshape(count, heads, width, -1).transpose(1, 2).flatten(0, 1)
    return flat.index_select(0, part.kept)
