"""One training row as ids: what was read, and which tokens are targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import torch
from torch import Tensor

from fdt.data.batch import Batch, View
from feedback.types import Episode
from objectives import Rollouts


@dataclass(frozen=True)
class Row:
    """One training row: its ids, and which of them are targets."""

    ids: list[int] = field(default_factory=list)
    target: list[bool] = field(default_factory=list)
    """Of each id, whether it is a target."""
    turns: list[int] = field(default_factory=list)
    """Of each target id, in order, the turn of the episode that it belongs to, from 0."""
    log_probs: list[float] = field(default_factory=list)
    """Of each target id, its log-prob when the engine sampled it (nats); NaN where unknown."""
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each of its turns, the start and end among the ids."""

    @classmethod
    def from_context(cls, context: Sequence[int], target: Sequence[int], turn: int = 0) -> Row:
        """A context, and one turn that answers it."""
        row = cls()
        row.append_context(context)
        row.append_turn(target, [True] * len(target), [math.nan] * len(target), turn)
        return row

    def append_context(self, ids: Sequence[int]) -> None:
        """Appends ids that the policy reads."""
        self.ids.extend(ids)
        self.target.extend([False] * len(ids))

    def append_turn(self, ids: Sequence[int], sampled: Sequence[bool], log_probs: Sequence[float], turn: int) -> None:
        """Appends a turn of the policy; ids that it did not sample are no targets."""
        self.spans[turn] = (len(self.ids), len(self.ids) + len(ids))
        self.ids.extend(ids)
        self.target.extend(sampled)
        self.turns.extend([turn] * sum(sampled))
        self.log_probs.extend(compress(log_probs, sampled))

    def get_prefix_ids(self, turn: int) -> list[int]:
        """The ids before a turn."""
        return self.ids[: self.spans[turn][0]]


@dataclass(frozen=True)
class TrainingRow:
    """One row before it becomes tensors."""

    episode: Episode
    row: Row
    task: int
    advantages: tuple[float, ...] = ()
    """Of each turn of the episode; those after the last one given are 0."""
    sampled: bool = False
    hints: tuple[Row, ...] = ()
    """The row as the teacher reads it, once for each hint."""
    imitated: bool = False
    """Whether it is a target of imitation."""
    off_policy: bool = False
    """Whether it is an answer that others wrote into the group."""
    extra_masks: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    """Further masks of its target tokens; the same names in every row of a batch."""

    def get_advantage(self, turn: int) -> float:
        """Advantage of a turn."""
        return self.advantages[turn] if turn < len(self.advantages) else 0.0


def build_batch(lines: Sequence[TrainingRow], pad: int, names: Iterable[str] = ()) -> Batch:
    """The batch of these rows, in order.

    Args:
        lines: the rows.
        pad: id of padding.
        names: scores that the batch has for every row, NaN where a row lacks one; those of the rows are added.
    """
    pairs = [(place, number) for place, line in enumerate(lines) for number in range(len(line.hints))]
    teacher = [lines[place].hints[number] for place, number in pairs]
    return Batch(
        student=View.from_masks([(line.row.ids, line.row.target) for line in lines], pad),
        rollouts=_build_rollouts(lines, names),
        teacher=View.from_masks([(row.ids, row.target) for row in teacher], pad) if teacher else None,
        teacher_rows=torch.tensor([place for place, _ in pairs]) if pairs else None,
        hint_index=torch.tensor([number for _, number in pairs]) if pairs else None,
        episodes=tuple(line.episode for line in lines),
    )


def _build_rollouts(lines: Sequence[TrainingRow], names: Iterable[str]) -> Rollouts:
    counts = torch.tensor([len(line.row.turns) for line in lines])
    row = torch.arange(len(lines)).repeat_interleave(counts)
    turns = [(place, turn) for place, line in enumerate(lines) for turn in sorted(set(line.row.turns))]
    number = {pair: index for index, pair in enumerate(turns)}
    flags = {
        "sampled": [line.sampled for line in lines],
        "distilled": [bool(line.hints) for line in lines],
        "imitated": [line.imitated for line in lines],
        "off_policy": [line.off_policy for line in lines],
        "recalled": [line.episode.is_recalled and line.sampled for line in lines],
    }
    each = [(place, turn) for place, line in enumerate(lines) for turn in line.row.turns]
    further = {
        name: torch.tensor([flag for line in lines for flag in line.extra_masks[name]], dtype=torch.bool)
        for name in lines[0].extra_masks
    }
    return Rollouts(
        advantages=torch.tensor([lines[place].get_advantage(turn) for place, turn in each], dtype=torch.float32),
        turn=torch.tensor([number[place, turn] for place, turn in each], dtype=torch.long),
        episode=row,
        task=torch.tensor([line.task for line in lines]),
        masks={name: torch.tensor(values)[row] for name, values in flags.items()} | further,
        engine_log_probs=_stack_engine_log_probs(lines),
        old_log_probs=_stack_old_log_probs(lines),
        scores=_stack_scores(lines, names),
        turn_scores=_stack_turn_scores(lines, turns),
        turn_tags=_stack_tags(lines, turns),
        lengths=counts,
    )


def _stack_engine_log_probs(lines: Sequence[TrainingRow]) -> Tensor | None:
    """Log-probs ``[N]`` of what the engine sampled, NaN for the rest; None where it sampled nothing."""
    known = [
        [math.nan] * len(line.row.turns) if line.imitated or line.off_policy else line.row.log_probs for line in lines
    ]
    found = torch.tensor([value for row in known for value in row], dtype=torch.float32)
    return None if found.isnan().all() else found


def _stack_old_log_probs(lines: Sequence[TrainingRow]) -> Tensor | None:
    """Log-probs ``[N]`` with which recalled answers were sampled, NaN for the rest; None where nothing is recalled."""
    if not any(line.episode.is_recalled for line in lines):
        return None
    known = [line.episode.is_recalled and line.sampled for line in lines]
    found = [
        line.row.log_probs if old else [math.nan] * len(line.row.turns) for line, old in zip(lines, known, strict=True)
    ]
    return torch.tensor([value for row in found for value in row], dtype=torch.float32)


def _stack_turn_scores(lines: Sequence[TrainingRow], turns: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    found = [{} if line.imitated else line.episode.turn_scores for line in lines]
    names = sorted({name for scores in found for name in scores})
    return {name: torch.tensor([found[p].get(name, {}).get(t, math.nan) for p, t in turns]) for name in names}


def _stack_tags(lines: Sequence[TrainingRow], turns: Sequence[tuple[int, int]]) -> Tensor | None:
    if all(line.episode.turn_tags is None for line in lines):
        return None
    return torch.tensor([get_turn_tag(lines[place].episode, turn) for place, turn in turns])


def _stack_scores(lines: Sequence[TrainingRow], names: Iterable[str]) -> dict[str, Tensor]:
    found = [line.episode.scores for line in lines]
    wanted = sorted({"score", *names}.union(*found))
    return {name: torch.tensor([scores.get(name, math.nan) for scores in found]) for name in wanted}


def get_turn_tag(episode: Episode, turn: int) -> int:
    """Kind of a turn; 0 where it has no tag."""
    tags = episode.turn_tags or ()
    return int(tags[turn]) if turn < len(tags) else 0
