"""Episodes become tensors, once: student rows, the teacher's view of the same tokens, and imitation rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fdt.data.batch import Batch
from fdt.data.dialogue import Dialogue
from fdt.data.markers import TokenMarker
from fdt.data.rows import Row, TrainingRow, build_batch
from fdt.data.tokenization import holds_control_tokens, tokenize_answer, truncate_to_tokens
from feedback.hints import Hint, run_hint
from feedback.types import Episode, Task, Turn

NOBODY = Episode("", Task("", ()), (Turn("assistant", ""),))
"""Behind a row that only keeps a rank in step."""
BROKEN = "control tokens in the text, broken by a zero-width space"


@dataclass
class Collator:
    """Turns episodes into one ``Batch``. Sampled turns keep their token ids; recorded text is tokenised once.

    Args:
        tokenizer: the policy's tokenizer, with a chat template.
        hint: writes the teacher's prompt; None switches the teacher off.
        max_tokens: rows longer than this (student or teacher view) are dropped and counted, never cut.
        marker: sets a further mask on the policy's tokens; None sets none.

    ``truncated`` counts what a row lost by reason (a hint cut at its own limit, a hint or revision that did not fit, a
    control token in its text that was broken, once for each row), ``dropped`` names the rows that are too long
    themselves.
    """

    tokenizer: Any
    hint: Hint | None = None
    max_tokens: int = 2048
    marker: TokenMarker | None = None
    truncated: Counter[str] = field(default_factory=Counter)
    dropped: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)

    def __call__(
        self, episodes: Sequence[Episode], advantages: Tensor, sampled: bool = True, names: Iterable[str] = ()
    ) -> Batch | None:
        """
        Args:
            episodes: E episodes; all their assistant turns were sampled.
            advantages: ``[E]``, or ``[E, S]`` where the turns of an episode differ; 0 where there is no score.
            sampled: whether the answers take part in the policy gradient.
            names: scores that the batch has for every row, NaN where a row lacks one.

        Returns:
            A batch of sampled rows followed by imitation rows (one for each revision), or None if nothing is left. An
            episode is one row, or several where the chat template rewrites its history.
        """
        tasks = {key: number for number, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
        each_turn = advantages if advantages.dim() == 2 else advantages[:, None]
        lines: list[TrainingRow] = []
        imitated: list[TrainingRow] = []
        for episode, row in zip(episodes, each_turn.tolist(), strict=True):
            rows = self.tokenize_episode(episode)
            self._count_changes(episode)
            turns = [turn for own in rows for turn in own.spans]
            each = tuple(row) if advantages.dim() == 2 else tuple(row) * (max(turns, default=0) + 1)
            line = TrainingRow(episode, Row(), tasks[episode.task.key], each, sampled and not math.isnan(episode.score))
            lines += self._build_sampled_rows(rows, line)
            imitated += self._build_imitation_rows(rows, line)
        if not lines and not imitated:
            return None
        return build_batch(
            [*map(self._apply_marker, lines), *map(self._apply_marker, imitated)], self.tokenizer.pad_token_id, names
        )

    def build_stand_in(self, names: Iterable[str] = ()) -> Batch:
        """A short row without weight, for a rank that has nothing to train on in a step; `names` as of a call."""
        end = self.tokenizer.eos_token_id
        line = TrainingRow(NOBODY, Row.from_context([end], [end]), 0, (0.0,))
        batch = build_batch([self._apply_marker(line)], self.tokenizer.pad_token_id, names)
        return replace(batch.zero_weights(), episodes=())

    def _apply_marker(self, line: TrainingRow) -> TrainingRow:
        if self.marker is None:
            return line
        return replace(line, extra_masks={self.marker.name: self.marker(line.row, self.tokenizer)})

    def _build_sampled_rows(self, rows: list[Row], line: TrainingRow) -> list[TrainingRow]:
        with_turns = [n for n, row in enumerate(rows) if row.turns]
        kept = [n for n in with_turns if len(rows[n].ids) <= self.max_tokens]
        if len(kept) < len(with_turns) or not with_turns:
            self.dropped.add(line.episode.id)
        if line.episode.is_rewrite:
            return [replace(line, row=rows[n], sampled=False, off_policy=True) for n in kept]
        if line.episode.is_recalled:
            return [replace(line, row=rows[n]) for n in kept]
        hinted_rows = self.tokenize_hinted(line.episode) if kept else []
        found = []
        for n in kept:
            hints = [hinted[n] for hinted in hinted_rows]
            fitting = tuple(hint for hint in hints if len(hint.ids) <= self.max_tokens)
            self.truncated.update(["hint too long"] * (len(hints) - len(fitting)))
            found.append(replace(line, row=rows[n], hints=fitting))
        return found

    def _build_imitation_rows(self, rows: list[Row], line: TrainingRow) -> list[TrainingRow]:
        given = line.episode.correction
        turns = [turn for row in rows for turn in row.spans]
        if given is None or given.revision is None or not turns or line.episode.is_recalled:
            return []  # what is recalled was imitated when it was fresh
        turn = turns[-1] if given.turn is None else given.turn
        source = next((row for row in rows if turn in row.spans), None)
        if source is None:
            raise ValueError(f"{line.episode.id}: a revision of turn {turn}, and the episode has {len(turns)}")
        prefix = source.get_prefix_ids(turn)
        row = Row.from_context(prefix, tokenize_answer(given.revision, self.tokenizer, context=prefix), turn)
        if len(row.ids) > self.max_tokens:
            self.truncated["revision too long"] += 1
            return []
        return [replace(line, row=row, advantages=(), sampled=False, imitated=True)]

    def _count_changes(self, episode: Episode) -> None:
        if episode.id not in self._changed and holds_control_tokens(episode, self.tokenizer):
            self._changed.add(episode.id)
            self.truncated[BROKEN] += 1

    def tokenize_episode(self, episode: Episode) -> list[Row]:
        """The rows of an episode: what the policy read and what it answered, as ids."""
        return Dialogue.from_episode(episode, self.tokenizer).rows

    def tokenize_hinted(self, episode: Episode) -> list[list[Row]]:
        """The same rows as the teacher reads them, once for each hint; nothing where there is no feedback in words.

        The hinted episode goes through the function that makes the student's rows, and is the same but for the hint.
        """
        if self.hint is None:
            return []
        return [self.tokenize_episode(hinted.episode) for hinted in run_hint(self.hint, episode, self.truncate_hint)]

    def truncate_text(self, text: str, limit: int) -> str:
        """The text within ``limit`` tokens, with an ellipsis where something was cut."""
        beginning = truncate_to_tokens(text, self.tokenizer, limit)
        return text if beginning == text else f"{beginning.rstrip()} …"

    def truncate_hint(self, text: str, limit: int) -> str:
        """The same, with what was cut counted."""
        found = self.truncate_text(text, limit)
        self.truncated.update(["hint truncated"] * (found != text))
        return found
