"""Rows of a log in the order in which they were judged, waited for where they are not there yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.errors import UserError
from fdt.rollout.actor import Actor
from fdt.rollout.advantages import compute_advantages
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.dynamic_sampling import SampledRollout
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import Replay
from feedback.aggregate import aggregate_scores
from feedback.hints import annotate_group
from feedback.logs.follower import Follower
from feedback.types import Episode, attach_hints

POLL = 0.5
"""Seconds between two looks at the file."""


@dataclass(frozen=True)
class Follow(Replay):
    """Replay of a log that `fdt serve` or `fdt annotate` writes, while it is written (OpenClaw-RL, arXiv 2603.10165).

    Step n takes the next `rows_per_step` rows in the order in which they were judged, and waits until they are there.
    So every judgement is learned from once, and a resumed run takes the very rows that the unbroken one would have. An
    advantage compares a row with all rows before it. A row that was taken back before its step has no weight.
    """

    takes_share = False

    file: str = ""
    """The log; `data.file` names it too, for what is held out and how scores compare."""
    rollouts_per_epoch: int = 100
    """Steps that Lightning counts as one epoch; `trainer.max_steps` ends the run."""
    patience: float = 3600
    """Seconds without a new row after which the run ends with an error; it can be resumed."""
    _followers: dict[str, Follower] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curriculum is not None:
            got = type(self.curriculum).__name__
            raise UserError(
                "a log is followed as it is written", got=got, expected="null", key="data.source.curriculum"
            )
        if not self.file:
            raise UserError("no file", expected="the log, as in data.file", key="data.source.file")
        for name in ("rows_per_step", "rollouts_per_epoch"):
            if getattr(self, name) < 1:
                raise UserError(name, got=getattr(self, name), expected="at least 1", key=f"data.source.{name}")

    def count_rollouts(self, episodes: Sequence[Episode]) -> int:
        return self.rollouts_per_epoch

    def draw(self, position: RolloutPosition, recorded: Recorded, actor: Actor) -> SampledRollout:
        start, rows = self._wait(position)
        own = [row for row in rows[start + position.rank :: position.world_size] if row is not None]
        episodes = attach_hints(aggregate_scores(own))
        if actor.collator.hint is not None:
            episodes = annotate_group(actor.collator.hint, episodes)
        return SampledRollout(episodes, torch.ones(len(episodes), dtype=torch.bool))

    def assign_advantages(self, rollout: SampledRollout, position: RolloutPosition, recorded: Recorded) -> Tensor:
        start, rows = self._wait(position)
        known = [(number, row) for number, row in enumerate(rows) if row is not None]
        found = compute_advantages(recorded.credit, [row for _, row in known])
        own = range(start + position.rank, len(rows), position.world_size)
        return found[[place for place, (number, _) in enumerate(known) if number in own]]

    def collate(self, rollout: SampledRollout, advantages: Tensor, recorded: Recorded, actor: Actor) -> list[Batch]:
        rows = rollout.episodes
        seen = [row for row in self._get_follower().rows if row is not None]
        names = recorded.score_names.union(*(row.scores for row in seen))
        batch = actor.collator(rows, advantages, self.behaviour == "start", names) if rows else None
        batch = batch if batch is not None else actor.collator.build_stand_in(names)
        return [replace(batch, behaviour="start")]

    def _wait(self, position: RolloutPosition) -> tuple[int, list[Episode | None]]:
        """Where the rows of a rollout start, and all rows up to its last.

        Raises:
            UserError: nothing new came for `patience` seconds.
        """
        follower = self._get_follower()
        start = (position.epoch * self.rollouts_per_epoch + position.rollout) * self.rows_per_step
        end = start + self.rows_per_step
        began = time.monotonic()
        count = len(follower.rows)
        follower.refresh()
        while len(follower.rows) < end:
            if len(follower.rows) > count:
                count = len(follower.rows)
                began = time.monotonic()
            if time.monotonic() - began > self.patience:
                raise UserError(
                    f"nothing new for {self.patience:g} s",
                    got=f"{count} judged rows",
                    expected=f"{end}",
                    remedy="Resume the run when more was said: --ckpt_path last.",
                    path=self.file,
                )
            time.sleep(POLL)
            follower.refresh()
        return start, follower.rows[:end]

    def _get_follower(self) -> Follower:
        if self.file not in self._followers:
            self._followers[self.file] = Follower(self.file)
        return self._followers[self.file]
