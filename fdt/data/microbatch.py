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
    """The rows that some term gives weight to: nobody pays a forward for the others. At least one row is kept."""
    weights = [batch.rollouts.weights[name] for name in terms]
    if not weights:
        return batch
    heard = torch.stack([weight != 0 for weight in weights]).any(0)
    rows = batch.rollouts.episode[heard].unique()
    if len(rows) == len(batch.student.lengths):
        return batch
    return batch.select_rows(rows if len(rows) else torch.zeros(1, dtype=torch.long, device=heard.device))


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
    lengths, first = batch.student.lengths.tolist(), batch.student.context_lengths.tolist()
    hinted = _collect_teacher_lengths(batch)

    def count_packed_tokens(rows: list[int]) -> int:
        return first[rows[0]] + sum(lengths[row] - first[row] for row in rows)

    parts = [_Part()]
    for group in sorted(group_by_context(batch.student), key=count_packed_tokens):
        for place, row in enumerate(group):
            grown = parts[-1].add_row(row, lengths[row], first[row] if place else 0, hinted.get(row, []))
            if grown.cost > budget and parts[-1].rows:
                parts.append(_Part().add_row(row, lengths[row], 0, hinted.get(row, [])))
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
    taught: int = 0
    hinted: int = 0

    @property
    def cost(self) -> int:
        """Tokens that student and teacher read, padding included."""
        return self.packs * self.widest + self.taught * self.hinted

    def add_row(self, row: int, length: int, shared: int, hinted: list[int]) -> _Part:
        """One row more; ``shared`` tokens of it are read already, as the context of the last pack.

        ``hinted`` are the lengths that the teacher reads, one for each hint.
        """
        pack = self.pack + length - shared if shared else length
        return _Part(
            rows=(*self.rows, row),
            packs=self.packs + (not shared),
            pack=pack,
            widest=max(self.widest, pack),
            taught=self.taught + len(hinted),
            hinted=max([self.hinted, *hinted]),
        )


def _collect_teacher_lengths(batch: Batch) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    if batch.teacher is not None and batch.taught_rows is not None:
        for row, length in zip(batch.taught_rows.tolist(), batch.teacher.lengths.tolist(), strict=True):
            found[row].append(length)
    return found


def align(parts: list[Batch]) -> list[Batch]:
    """Gives every rank the same number of micro-batches, each with a teacher view where any rank has one.

    Added forwards are real and carry weight zero: under FSDP2 a forward is a collective that no rank may skip.
    """
    device = parts[0].student.tokens.device
    shortest = min(parts, key=lambda part: int(part.student.lengths.sum()))
    idle = shortest.select_rows(torch.zeros(1, dtype=torch.long, device=device)).zero_weights()
    idle = replace(idle, teacher=None, taught_rows=None, hint_number=None)
    parts = parts + [idle] * (reduce_max_count(len(parts), device) - len(parts))
    taught = reduce_max([part.teacher is not None for part in parts], device)
    return [_ensure_teacher(part) if needed else part for part, needed in zip(parts, taught, strict=True)]


def _ensure_teacher(part: Batch) -> Batch:
    if part.teacher is not None:
        return part
    row = torch.zeros(1, dtype=torch.long, device=part.student.tokens.device)
    view: View = part.student.select_rows(row)
    return replace(part, teacher=view, taught_rows=row)
