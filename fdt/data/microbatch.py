"""One optimiser step is cut into micro-batches by a token budget, the same number of them on every rank."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import torch

from fdt.data.batch import Batch, View
from fdt.data.packing import group_by_context
from fdt.distributed import reduce_max, reduce_max_count
from objectives import Term


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


def split_batch(batch: Batch, budget: int) -> list[Batch]:
    """Cuts by tokens that the models read (student and teacher), keeping rows of one prompt together where they fit.

    Args:
        batch: B rows.
        budget: most tokens of one micro-batch, padding included; a single row may exceed it.
    """
    device = batch.student.tokens.device
    return [batch.select_rows(torch.tensor(rows, device=device)) for rows in split_rows(batch, budget)]


def split_rows(batch: Batch, budget: int) -> list[list[int]]:
    """Row numbers of each micro-batch."""
    lengths = batch.student.lengths.tolist()
    contexts = batch.student.context_lengths.tolist()
    teacher_lengths = _collect_teacher_lengths(batch)

    def count_packed_tokens(rows: list[int]) -> int:
        return contexts[rows[0]] + sum(lengths[row] - contexts[row] for row in rows)

    parts = [_Part()]
    for group in sorted(group_by_context(batch.student), key=count_packed_tokens):
        for number, row in enumerate(group):
            grown = parts[-1].add_row(row, lengths[row], contexts[row] if number else 0, teacher_lengths.get(row, []))
            if grown.cost > budget and parts[-1].rows:
                parts.append(_Part().add_row(row, lengths[row], 0, teacher_lengths.get(row, [])))
            else:
                parts[-1] = grown
    return [sorted(part.rows) for part in parts]


@dataclass(frozen=True)
class _Part:
    """Rows of one micro-batch; ``pack`` is the length of the last pack, ``widest`` that of the longest one."""

    rows: tuple[int, ...] = ()
    packs: int = 0
    pack: int = 0
    widest: int = 0
    teacher_rows: int = 0
    teacher_width: int = 0

    @property
    def cost(self) -> int:
        """Tokens that student and teacher read, padding included."""
        return self.packs * self.widest + self.teacher_rows * self.teacher_width

    def add_row(self, row: int, length: int, shared: int, teacher_lengths: list[int]) -> _Part:
        """One row more; ``shared`` tokens of it are already read, as the context of the last pack.

        ``teacher_lengths`` are the lengths that the teacher reads, one for each hint.
        """
        pack = self.pack + length - shared if shared else length
        return _Part(
            rows=(*self.rows, row),
            packs=self.packs + (not shared),
            pack=pack,
            widest=max(self.widest, pack),
            teacher_rows=self.teacher_rows + len(teacher_lengths),
            teacher_width=max([self.teacher_width, *teacher_lengths]),
        )


def _collect_teacher_lengths(batch: Batch) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    if batch.teacher is not None and batch.teacher_rows is not None:
        for row, length in zip(batch.teacher_rows.tolist(), batch.teacher.lengths.tolist(), strict=True):
            found[row].append(length)
    return found


def align(parts: list[Batch]) -> list[Batch]:
    """Gives every rank the same number of micro-batches, each with a teacher view where any rank has one.

    Added forwards are real and carry weight zero: under FSDP2 a forward is a collective that no rank may skip.
    """
    device = parts[0].student.tokens.device
    shortest = min(parts, key=lambda part: int(part.student.lengths.sum()))
    idle = shortest.select_rows(torch.zeros(1, dtype=torch.long, device=device)).zero_weights()
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
