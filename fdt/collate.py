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
from fdt.text import answer_ids, prompt_ids, shortened
from feedback.hints import Hint
from feedback.rewriter import JOINED
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

    ``shortened`` counts what a row lost by reason (a hint cut at its own limit, a hint or revision that did not fit),
    ``lost`` names the rows that are too long themselves.
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
        if episode.meta.get(JOINED):
            return _Line(episode, (context, target), task, advantage, joined=True)
        hints = self.teachers(episode)
        fitting = tuple(hint for hint in hints if len(hint) + len(target) <= self.max_tokens)
        self.shortened.update(["hint too long"] * (len(hints) - len(fitting)))
        scored = acted and not math.isnan(episode.score)
        return _Line(episode, (context, target), task, advantage, scored, fitting)

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

    def teachers(self, episode: Episode) -> list[list[int]]:
        """What the teacher reads before the same answer, once for each hint; nothing where nobody said anything.

        The hinted episode goes through the very function that makes the student's row, so all but the hint is the same.
        """
        if self.hint is None:
            return []
        return [self.student(whisper.episode)[0] for whisper in self.hint.whispers(episode, self.cut)]

    def cut(self, text: str, limit: int) -> str:
        """The text within ``limit`` tokens; a cut is marked with an ellipsis and counted."""
        beginning = shortened(text, self.tokenizer, limit)
        if beginning == text:
            return text
        self.shortened["hint cut"] += 1
        return f"{beginning.rstrip()} …"


@dataclass(frozen=True)
class _Line:
    """One row before it becomes tensors: ``hints`` are the teacher's contexts, ``shown`` marks an imitation target and
    ``joined`` an answer that others wrote into the group."""

    episode: Episode
    row: Row
    task: int
    advantage: float = 0.0
    acted: bool = False
    hints: tuple[list[int], ...] = ()
    shown: bool = False
    joined: bool = False


def _batch(lines: list[_Line], pad: int) -> Batch:
    student = View.of([line.row for line in lines], pad)
    counts = student.counts
    row = torch.arange(len(counts)).repeat_interleave(counts)
    taught = [(place, number) for place, line in enumerate(lines) for number in range(len(line.hints))]
    teacher = [(lines[place].hints[number], lines[place].row[1]) for place, number in taught]
    marks = {
        "acted": torch.tensor([line.acted for line in lines])[row],
        "taught": torch.tensor([bool(line.hints) for line in lines])[row],
        "shown": torch.tensor([line.shown for line in lines])[row],
        "joined": torch.tensor([line.joined for line in lines])[row],
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
        taught_rows=torch.tensor([place for place, _ in taught]) if taught else None,
        hint_number=torch.tensor([number for _, number in taught]) if taught else None,
        episodes=tuple(line.episode for line in lines),
    )
