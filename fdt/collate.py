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
    dropped: Counter[str] = field(default_factory=Counter)
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
        rows = _Rows()
        tasks = {key: place for place, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
        for episode, advantage in zip(episodes, advantages.tolist(), strict=True):
            self._add(rows, episode, tasks[episode.task.key], advantage, acted)
        for episode in episodes:
            self._add_revision(rows, episode, tasks[episode.task.key])
        return rows.batch(self.tokenizer.pad_token_id) if rows.student else None

    def _add(self, rows: _Rows, episode: Episode, task: int, advantage: float, acted: bool) -> None:
        context, target = self.student(episode)
        if len(context) + len(target) > self.max_tokens:
            self.dropped["too long"] += 1
            self.lost.add(episode.id)
            return
        hinted = self.teacher(episode)
        if hinted is not None and len(hinted) + len(target) > self.max_tokens:
            self.dropped["hint too long"] += 1
            hinted = None
        scored = acted and not math.isnan(episode.score)
        rows.add(episode, (context, target), task, advantage, scored, hinted, False)

    def _add_revision(self, rows: _Rows, episode: Episode, task: int) -> None:
        if episode.revision is None:
            return
        context, _ = self.student(episode)
        target = answer_ids(episode.revision, self.tokenizer)
        if len(context) + len(target) > self.max_tokens:
            self.dropped["revision too long"] += 1
            return
        rows.add(episode, (context, target), task, 0.0, False, None, True)

    def student(self, episode: Episode) -> Row:
        """What the policy read and what it answered, as ids."""
        last = episode.turns[-1]
        history = [{"role": t.role, "content": t.text} for t in episode.turns[:-1]]
        context = prompt_ids([*episode.task.messages, *history], self.tokenizer)
        return context, list(last.ids) if last.ids is not None else answer_ids(last.text, self.tokenizer)

    def teacher(self, episode: Episode) -> list[int] | None:
        """What the teacher reads before the same answer; None where nobody said anything."""
        messages = self.hint(episode) if self.hint is not None else None
        return None if messages is None else prompt_ids(messages, self.tokenizer)


@dataclass
class _Rows:
    student: list[Row] = field(default_factory=list)
    teacher: list[Row] = field(default_factory=list)
    taught: list[int] = field(default_factory=list)
    task: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    advantage: list[float] = field(default_factory=list)
    acted: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)

    def add(
        self, episode: Episode, row: Row, task: int, advantage: float, acted: bool, hint: list[int] | None, shown: bool
    ) -> None:
        if hint is not None:
            self.taught.append(len(self.student))
            self.teacher.append((hint, row[1]))
        self.student.append(row)
        self.task.append(task)
        self.score.append(math.nan if shown else episode.score)
        self.advantage.append(advantage)
        self.acted.append(acted)
        self.shown.append(shown)
        self.episodes.append(episode)

    def batch(self, pad: int) -> Batch:
        student = View.of(self.student, pad)
        counts = student.counts
        row = torch.arange(len(counts)).repeat_interleave(counts)
        taught = torch.zeros(len(counts), dtype=torch.bool)
        taught[self.taught] = True
        rollouts = Rollouts(
            advantages=torch.tensor(self.advantage)[row],
            step=row,
            episode=row,
            task=torch.tensor(self.task),
            marks={
                "acted": torch.tensor(self.acted)[row],
                "taught": taught[row],
                "shown": torch.tensor(self.shown)[row],
            },
            scores={"score": torch.tensor(self.score)},
            lengths=counts,
        )
        return Batch(
            student=student,
            rollouts=rollouts,
            teacher=View.of(self.teacher, pad) if self.teacher else None,
            taught_rows=torch.tensor(self.taught) if self.taught else None,
            episodes=tuple(self.episodes),
        )
