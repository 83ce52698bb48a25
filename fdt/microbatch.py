"""One optimiser step is cut into micro-batches by a token budget, the same number of them on every rank."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from fdt.batch import Batch, View
from fdt.packing import groups


def cut(batch: Batch, budget: int) -> list[Batch]:
    """Cuts by tokens that the models read (student and teacher), keeping rows of one prompt together where they fit.

    Args:
        batch: B rows.
        budget: most tokens of one micro-batch, padding included; a single row may exceed it.
    """
    device = batch.student.tokens.device
    return [batch.rows(torch.tensor(rows, device=device)) for rows in cut_rows(batch, budget)]


def cut_rows(batch: Batch, budget: int) -> list[list[int]]:
    """Row numbers of each micro-batch."""
    lengths, first = batch.student.lengths.tolist(), batch.student.first.tolist()
    hinted = _teacher_lengths(batch)
    parts: list[list[int]] = [[]]
    student = widest = taught = 0
    for group in sorted(groups(batch.student), key=lambda rows: max(lengths[r] for r in rows)):
        for place, row in enumerate(group):
            cost = lengths[row] if place == 0 else lengths[row] - first[row]
            width, readers = max(widest, hinted.get(row, 0)), taught + (row in hinted)
            if parts[-1] and student + cost + width * readers > budget:
                parts.append([])
                student, cost, width, readers = 0, lengths[row], hinted.get(row, 0), int(row in hinted)
            parts[-1].append(row)
            student, widest, taught = student + cost, width, readers
    return [sorted(rows) for rows in parts]


def _teacher_lengths(batch: Batch) -> dict[int, int]:
    if batch.teacher is None or batch.taught_rows is None:
        return {}
    return dict(zip(batch.taught_rows.tolist(), batch.teacher.lengths.tolist(), strict=True))


def align(parts: list[Batch]) -> list[Batch]:
    """Gives every rank the same number of micro-batches, each with a teacher view where any rank has one.

    Added forwards are real and carry weight zero: under FSDP2 a forward is a collective that no rank may skip.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return parts
    device = parts[0].student.tokens.device
    count = torch.tensor(len(parts), device=device)
    dist.all_reduce(count, dist.ReduceOp.MAX)
    shortest = min(parts, key=lambda part: int(part.student.lengths.sum()))
    idle = shortest.rows(torch.zeros(1, dtype=torch.long, device=device)).silenced()
    parts = parts + [replace(idle, teacher=None, taught_rows=None)] * (int(count) - len(parts))
    taught = torch.tensor([part.teacher is not None for part in parts], device=device).int()
    dist.all_reduce(taught, dist.ReduceOp.MAX)
    return [_with_teacher(part) if needed else part for part, needed in zip(parts, taught.tolist(), strict=True)]


def _with_teacher(part: Batch) -> Batch:
    if part.teacher is not None:
        return part
    row = torch.zeros(1, dtype=torch.long, device=part.student.tokens.device)
    view: View = part.student.rows(row)
    return replace(part, teacher=view, taught_rows=row)


def total(values: dict[str, Tensor], device: torch.device) -> dict[str, float]:
    """Sums named numbers over ranks."""
    names = sorted(values)
    stacked = torch.stack([values[name].detach().double().to(device) for name in names]) if names else torch.zeros(0)
    if names and dist.is_available() and dist.is_initialized():
        dist.all_reduce(stacked)
    return dict(zip(names, stacked.tolist(), strict=True))
