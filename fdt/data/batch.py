"""What the learner receives: token views of one model each, and the rollouts with their advantages and masks.

Dimensions: B rows · T context · N target tokens (all rows, flat, row-major) · Bt rows that a teacher reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from fdt.data.layout import Layout
from fdt.distributed import gather_objects, is_distributed
from feedback.types import Episode
from objectives import Rollouts


@dataclass(frozen=True)
class View:
    """What one model reads, and of which of those tokens the log-probs count.

    tokens: ``[B, T]`` int64, right-padded · target: ``[B, T]`` bool, never True at position 0 · lengths: ``[B]`` int64.
    """

    tokens: Tensor
    target: Tensor
    lengths: Tensor
    layout: Layout | None = None
    """How a decoder reads it, where that was worked out before the view was moved to a device."""

    @classmethod
    def from_pairs(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int = 0) -> View:
        """Builds a view from (context ids, target ids) pairs; every context holds at least one token."""
        return cls.from_masks([([*c, *t], [False] * len(c) + [True] * len(t)) for c, t in rows], pad)

    @classmethod
    def from_masks(cls, rows: Sequence[tuple[Sequence[int], Sequence[bool]]], pad: int = 0) -> View:
        """Builds a view from (ids, which of them are targets) pairs; the first id of a row is never a target."""
        size = max(len(ids) for ids, _ in rows)
        tokens = torch.full((len(rows), size), pad, dtype=torch.long)
        mask = torch.zeros((len(rows), size), dtype=torch.bool)
        for row, (ids, target) in enumerate(rows):
            if not ids or target[0]:
                raise ValueError(f"View: row {row} has an empty context; the first target token needs a predecessor")
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = torch.tensor(target)
        return cls(tokens, mask, torch.tensor([len(ids) for ids, _ in rows]))

    @property
    def counts(self) -> Tensor:
        """Target tokens per row, ``[B]``."""
        return self.target.sum(-1)

    @property
    def context_lengths(self) -> Tensor:
        """Length of the context before the first target token, ``[B]``; the whole row where nothing is a target."""
        return torch.where(self.target.any(-1), self.target.int().argmax(-1), self.lengths)

    def select_rows(self, index: Tensor) -> View:
        """The named rows, trimmed to the longest of them."""
        size = int(self.lengths[index].max())
        return View(self.tokens[index, :size], self.target[index, :size], self.lengths[index])

    def to(self, device: Any) -> View:
        layout = None if self.layout is None else self.layout.to(device)
        return View(self.tokens.to(device), self.target.to(device), self.lengths.to(device), layout)


@dataclass(frozen=True)
class Batch:
    """All rows of one optimiser step on this rank (or, after cutting, one micro-batch of it)."""

    student: View
    rollouts: Rollouts
    teacher: View | None = None
    teacher_rows: Tensor | None = None
    """``[Bt]``: the student row that each teacher row re-reads; one student row may be read under several hints."""
    hint_index: Tensor | None = None
    """``[Bt]``: which of its row's hints each teacher row reads, from 0; None: all the first."""
    taught: Tensor | None = None
    """Positions among the N that the teacher view reads, where they were worked out beforehand."""
    behaviour: str = "policy"
    """Who sampled the answers: ``policy`` (the current one) or ``start`` (unknown; the starting policy stands in)."""
    episodes: tuple[Episode, ...] = ()
    """The episode behind each row, for transcripts; never moved to a device."""
    info: dict[str, float] = field(default_factory=dict)
    """Numbers about how the batch was made (seconds of generation, acceptance of rewrites, …), summed over ranks."""

    @property
    def offsets(self) -> Tensor:
        """``[B + 1]``: where each row's target tokens start among the N."""
        return torch.nn.functional.pad(self.student.counts.cumsum(0), (1, 0))

    def index_tokens(self, rows: Tensor) -> Tensor:
        """Positions among the N of the target tokens of these rows, row-major."""
        offsets = self.offsets.tolist()
        spans = [torch.arange(offsets[r], offsets[r + 1], device=rows.device) for r in rows.tolist()]
        return torch.cat(spans) if spans else torch.empty(0, dtype=torch.long, device=rows.device)

    def select_rows(self, index: Tensor) -> Batch:
        """A micro-batch: the named rows with their teacher views and their share of the rollouts."""
        teacher: View | None = None
        teacher_rows: Tensor | None = None
        hint_index: Tensor | None = None
        if self.teacher is not None and self.teacher_rows is not None:
            where = (self.teacher_rows[None] == index[:, None]).nonzero()
            if len(where):
                teacher_rows, positions = where.unbind(1)
                teacher = self.teacher.select_rows(positions)
                hint_index = None if self.hint_index is None else self.hint_index[positions]
        episodes = tuple(self.episodes[i] for i in index.tolist()) if self.episodes else ()
        return replace(
            self,
            student=self.student.select_rows(index),
            rollouts=self.rollouts.take(self.index_tokens(index)),
            teacher=teacher,
            teacher_rows=teacher_rows,
            hint_index=hint_index,
            taught=None,
            episodes=episodes,
        )

    @property
    def teacher_tokens(self) -> Tensor:
        """Positions among the N that the teacher view reads."""
        if self.taught is not None:
            return self.taught
        assert self.teacher_rows is not None
        return self.index_tokens(self.teacher_rows)

    def zero_weights(self) -> Batch:
        """The same tokens with every mask and weight off, and no place for what is held near the start: keeps a rank
        without data in step with the others."""
        rollouts = self.rollouts
        return replace(
            self,
            rollouts=replace(
                rollouts,
                masks={name: torch.zeros_like(mask) for name, mask in rollouts.masks.items()},
                weights={name: torch.zeros_like(weight) for name, weight in rollouts.weights.items()},
                taught_prompts=torch.ones_like(rollouts.task, dtype=torch.bool),
            ),
        )

    def to(self, device: Any) -> Batch:
        return replace(
            self,
            student=self.student.to(device),
            rollouts=move(self.rollouts, device),
            teacher=None if self.teacher is None else self.teacher.to(device),
            teacher_rows=None if self.teacher_rows is None else self.teacher_rows.to(device),
            hint_index=None if self.hint_index is None else self.hint_index.to(device),
            taught=None if self.taught is None else self.taught.to(device),
        )


def share_taught_prompts(batch: Batch) -> Rollouts:
    """The batch's rollouts, which know of answers to the same prompts on other ranks; every rank must call."""
    rollouts = batch.rollouts
    if not is_distributed():
        return rollouts
    keys = [episode.task.key for episode in batch.episodes]
    read = rollouts.episode[rollouts.masks["distilled"]].unique().tolist() if keys else []
    taught = set().union(*gather_objects({keys[row] for row in read}))
    if not keys:  # rows that only keep this rank in step
        return rollouts
    return replace(rollouts, taught_prompts=torch.tensor([key in taught for key in keys], device=rollouts.task.device))


def build_untrained_rollouts(counts: Tensor, **given: Any) -> Rollouts:
    """Rollouts of rows with ``counts [B]`` target tokens that nothing trains on: advantage 0, no masks, a task each.

    ``given`` replaces fields.
    """
    row = torch.arange(len(counts)).repeat_interleave(counts)
    known: dict[str, Any] = {
        "advantages": torch.zeros(len(row)),
        "turn": row,
        "episode": row,
        "task": torch.arange(len(counts)),
        "masks": {},
        "lengths": counts,
    }
    return Rollouts(**known | given)


def move(value: Any, device: Any) -> Any:
    """Moves every tensor of a (nested) dataclass or dictionary."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, Rollouts):
        return replace(value, **{f.name: move(getattr(value, f.name), device) for f in fields(value)})
    return value
