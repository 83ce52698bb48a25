"""One optimiser step is cut into micro-batches by a token budget, the same number of them on every rank."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning import LightningDataModule

from fdt.data.batch import Batch, View
from fdt.data.packing import PackedSize, group_by_context
from fdt.distributed import reduce_max, reduce_max_count
from objectives import Term


class StepDataModule(LightningDataModule):
    """A data module whose steps stay on the CPU: there they are weighed and cut; the learner moves micro-batches."""

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Moves anything but a `Batch`."""
        return batch if isinstance(batch, Batch) else super().transfer_batch_to_device(batch, device, dataloader_idx)


def select_weighted_rows(batch: Batch, terms: dict[str, Term]) -> Batch:
    """The rows that some term gives weight to: the others cost no forward. At least one row is kept."""
    weights = [batch.rollouts.weights[name] for name in terms]
    if not weights:
        return batch
    weighted = torch.stack([weight != 0 for weight in weights]).any(0)
    rows = batch.rollouts.episode[weighted].unique()
    if len(rows) == len(batch.student.lengths):
        return batch
    return batch.select_rows(rows if len(rows) else torch.zeros(1, dtype=torch.long, device=weighted.device))


def split_batch(batch: Batch, budget: int, packs: bool = True) -> list[Batch]:
    """Cuts by tokens that the models read, keeping rows of one prompt together where they fit. Student and teacher
    read one after the other, so the budget holds for each by itself.

    Args:
        batch: B rows.
        budget: most tokens that one forward of a micro-batch reads, padding included; a single row may exceed it.
        packs: whether the model reads rows of one prompt together.
    """
    device = batch.student.tokens.device
    return [batch.select_rows(torch.tensor(rows, device=device)) for rows in split_rows(batch, budget, packs)]


def split_rows(batch: Batch, budget: int, packs: bool = True) -> list[list[int]]:
    """Row numbers of each micro-batch."""
    lengths = batch.student.lengths.tolist()
    contexts = batch.student.context_lengths.tolist()
    taught = _collect_teacher_lengths(batch)

    def count_packed_tokens(rows: list[int]) -> int:
        return contexts[rows[0]] + sum(lengths[row] - contexts[row] for row in rows)

    parts = [_Part()]
    for group in sorted(group_by_context(batch.student), key=count_packed_tokens):
        for number, row in enumerate(group):
            added = (row, lengths[row], contexts[row], taught.get(row, []))
            grown = parts[-1].add_row(*added, joins=packs and number > 0)
            if grown.cost > budget and parts[-1].rows:
                parts.append(_Part().add_row(*added, joins=False))
            else:
                parts[-1] = grown
    return [sorted(part.rows) for part in parts]


@dataclass(frozen=True)
class _Part:
    """Rows of one micro-batch, and what is read for them."""

    rows: tuple[int, ...] = ()
    student: PackedSize = PackedSize()
    teacher_rows: int = 0
    teacher_width: int = 0

    @property
    def cost(self) -> int:
        """Tokens of the larger forward, padding included; a teacher that shares prompts reads fewer."""
        return max(self.student.tokens, self.teacher_rows * self.teacher_width)

    def add_row(self, row: int, length: int, context: int, taught: list[int], joins: bool) -> _Part:
        """One row more; ``joins`` where the row before it has the same context."""
        return _Part(
            rows=(*self.rows, row),
            student=self.student.add_row(length, context, joins),
            teacher_rows=self.teacher_rows + len(taught),
            teacher_width=max([self.teacher_width, *taught]),
        )


def _collect_teacher_lengths(batch: Batch) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    if batch.teacher is not None and batch.teacher_rows is not None:
        for row, length in zip(batch.teacher_rows.tolist(), batch.teacher.lengths.tolist(), strict=True):
            found[row].append(length)
    return found


def align(parts: list[Batch], device: Any) -> list[Batch]:
    """Gives every rank the same number of micro-batches, each with a teacher view where any rank has one.

    Added forwards are real and carry weight zero: under FSDP2 a forward is a collective that no rank may skip.

    Args:
        parts: this rank's micro-batches.
        device: where ranks meet.
    """
    shortest = min(parts, key=lambda part: int(part.student.lengths.sum()))
    idle = shortest.select_rows(torch.zeros(1, dtype=torch.long)).zero_weights()
    idle = replace(idle, teacher=None, teacher_rows=None, hint_index=None)
    parts = parts + [idle] * (reduce_max_count(len(parts), device) - len(parts))
    has_teacher = reduce_max([part.teacher is not None for part in parts], device)
    return [_ensure_teacher(part) if needed else part for part, needed in zip(parts, has_teacher, strict=True)]


def _ensure_teacher(part: Batch) -> Batch:
    if part.teacher is not None:
        return part
    row = torch.zeros(1, dtype=torch.long, device=part.student.tokens.device)
    view: View = part.student.select_rows(row)
    return replace(part, teacher=view, teacher_rows=row)
