"""Episodes become tensors, once: student rows, the teacher's view of the same tokens, and imitation rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fdt.batch import Batch, View
from fdt.text import answer_ids, prompt_ids
from feedback.hints import Hint
from feedback.types import Episode
from objectives import Rollouts

Row = tuple[list[int], list[int]]


@dataclass
class Collator:
    """Turns episodes into one ``Batch``. Sampled turns keep their token ids; recorded text is tokenised here.

    Args:
        tokenizer: the policy's tokenizer, with a chat template.
        hint: writes the teacher's prompt; None switches the teacher off.
        max_tokens: rows longer than this (student or teacher view) are dropped and counted, never cut.
    """

    tokenizer: Any
    hint: Hint | None = None
    max_tokens: int = 2048
    shortened: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)

    def __call__(self, episodes: Sequence[Episode], advantages: Tensor, acted: bool = True) -> Batch | None:
        """
        Args:
            episodes: E episodes; the last assistant turn of each is its action.
            advantages: ``[E]``, 0 where there is no score.
            acted: whether the actions feed the policy gradient.

        Returns:
            A batch of action rows followed by imitation rows (one for each revision), or None if nothing is left.
        """
        tasks = {key: place for place, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
        lines = [
            self._action(episode, tasks[episode.task.key], advantage, acted)
            for episode, advantage in zip(episodes, advantages.tolist(), strict=True)
        ]
        lines += [self._revision(episode, tasks[episode.task.key]) for episode in episodes]
        kept = [line for line in lines if line is not None]
        return _batch(kept, self.tokenizer.pad_token_id) if kept else None

    def _action(self, episode: Episode, task: int, advantage: float, acted: bool) -> _Line | None:
        context, target = self.student(episode)
        if len(context) + len(target) > self.max_tokens:
            self.lost.add(episode.id)
            return None
        hinted = self.teacher(episode)
        if hinted is not None and len(hinted) + len(target) > self.max_tokens:
            self.shortened["hint too long"] += 1
            hinted = None
        scored = acted and not math.isnan(episode.score)
        return _Line(episode, (context, target), task, advantage, scored, hinted)

    def _revision(self, episode: Episode, task: int) -> _Line | None:
        if episode.revision is None:
            return None
        context, _ = self.student(episode)
        target = answer_ids(episode.revision, self.tokenizer)
        if len(context) + len(target) > self.max_tokens:
            self.shortened["revision too long"] += 1
            return None
        return _Line(episode, (context, target), task, shown=True)

    def student(self, episode: Episode) -> Row:
        """What the policy read and what it answered, as ids."""
        last = episode.turns[-1]
        history = [{"role": t.role, "content": t.text} for t in episode.turns[:-1]]
        context = prompt_ids([*episode.task.messages, *history], self.tokenizer)
        if last.ids is not None:
            return context, list(last.ids)
        # A recorded answer that was cut off (column ``finished`` false) never chose to end.
        return context, answer_ids(last.text, self.tokenizer, closed=episode.task.meta.get("finished") is not False)

    def teacher(self, episode: Episode) -> list[int] | None:
        """What the teacher reads before the same answer; None where nobody said anything."""
        messages = self.hint(episode) if self.hint is not None else None
        return None if messages is None else prompt_ids(messages, self.tokenizer)


@dataclass(frozen=True)
class _Line:
    """One row before it becomes tensors: ``hint`` is the teacher's context, ``shown`` marks an imitation target."""

    episode: Episode
    row: Row
    task: int
    advantage: float = 0.0
    acted: bool = False
    hint: list[int] | None = None
    shown: bool = False


def _batch(lines: list[_Line], pad: int) -> Batch:
    student = View.of([line.row for line in lines], pad)
    counts = student.counts
    row = torch.arange(len(counts)).repeat_interleave(counts)
    taught = [place for place, line in enumerate(lines) if line.hint is not None]
    teacher = [(lines[place].hint or [], lines[place].row[1]) for place in taught]
    marks = {
        "acted": torch.tensor([line.acted for line in lines])[row],
        "taught": torch.tensor([line.hint is not None for line in lines])[row],
        "shown": torch.tensor([line.shown for line in lines])[row],
    }
    rollouts = Rollouts(
        advantages=torch.tensor([line.advantage for line in lines])[row],
        step=row,
        episode=row,
        task=torch.tensor([line.task for line in lines]),
        marks=marks,
        scores={"score": torch.tensor([line.episode.score for line in lines])},
        lengths=counts,
    )
    return Batch(
        student=student,
        rollouts=rollouts,
        teacher=View.of(teacher, pad) if teacher else None,
        taught_rows=torch.tensor(taught) if taught else None,
        episodes=tuple(line.episode for line in lines),
    )
