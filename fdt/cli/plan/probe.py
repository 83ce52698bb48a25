"""What notes the steps of a short run, and what judges its answers."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.data.batch import Batch
from feedback.graders import Grader
from feedback.types import Episode, Feedback

PLUGS = __name__
"""Where a config finds them."""
INTERVAL = 0.01
"""Seconds between two looks at the memory."""
NOTES = "probe.jsonl"


@dataclass(frozen=True)
class AnyScore(Grader):
    """A score by the answer's bytes, so that no group's answers are all alike; where told a critique, a correction."""

    critique: str | None = None
    """What is said of an answer."""
    revision: str | None = None
    """What is put in its place."""
    critique_share: float = 1.0
    """Of the answers, how many get the critique."""
    revision_share: float = 1.0
    """Of the answers, how many get the correction."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        return [self._grade(number, len(episodes), episode) for number, episode in enumerate(episodes)]

    def _grade(self, number: int, count: int, episode: Episode) -> Episode:
        place = (number + 0.5) / count
        found = Feedback(
            score=zlib.crc32(episode.response.encode()) % 101 / 100,
            text=self.critique if place < self.critique_share else None,
            revision=self.revision if place < self.revision_share else None,
        )
        return replace(episode, feedback=(found,))


class Probe(Callback):
    """Writes when each step began and ended, what it read, and the largest memory so far: JSON lines of the first rank.

    Each holds ``began`` and ``ended`` in seconds, ``memory`` in bytes beyond what the process took before the model was
    loaded, weights that stay mapped from their file among them, and of the step's batch ``rows`` (answers; corrections
    are further ones), ``prompt`` and ``answer`` (mean tokens), ``hinted`` and ``imitated`` (shares of answers) and
    ``hint`` (mean tokens).
    """

    def __init__(self, path: str) -> None:
        """
        Args:
            path: the JSON-lines file.
        """
        self.path = Path(path)
        self.before = self.most = self.mapped = 0
        self.found: dict[str, float] = {}
        self.ended = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.before = read_memory()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self.ended.wait(INTERVAL):
            self.most = max(self.most, read_memory())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.found = count_batch(batch) | {"began": read_clock(trainer)}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        ended = read_clock(trainer)
        self.mapped = max(self.mapped, read_mapped_weights())
        found = self.found | {"ended": ended, "memory": self.most - self.before + self.mapped}
        with self.path.open("a") as file:
            file.write(json.dumps(found) + "\n")

    def teardown(self, *_: Any, **__: Any) -> None:
        self.ended.set()


def build_trainer(folder: Path, steps: int) -> dict[str, Any]:
    """Settings of a trainer that takes so many steps, measures and saves nothing, and has them noted in the folder."""
    saves = {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": 1000}}
    probe = {"class_path": f"{PLUGS}.Probe", "init_args": {"path": str(folder / NOTES)}}
    return {
        "default_root_dir": str(folder / "run"),
        "max_steps": steps,
        "max_epochs": -1,
        "callbacks": [saves, probe],
        "check_val_every_n_epoch": 1000,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
    }


def read_steps(folder: Path) -> list[dict[str, float]]:
    """What was noted of each step."""
    return [json.loads(line) for line in (folder / NOTES).read_text().splitlines()]


def find_shortest_step(steps: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Seconds of the shortest step beside the first, and of what came before it was trained: answers being written."""
    return min((now["ended"] - last["ended"], now["began"] - last["ended"]) for last, now in pairwise(steps))


def count_batch(batch: Batch) -> dict[str, float]:
    """Rows, and mean tokens of what they hold."""
    contexts, lengths = batch.student.context_lengths, batch.student.lengths
    corrections = len(batch.rollouts.episode[batch.rollouts.masks["imitated"]].unique())
    rows = len(lengths) - corrections
    found = {
        "rows": rows,
        "prompt": float(contexts.float().mean()),
        "answer": float((lengths - contexts).float().mean()),
        "hinted": 0.0,
        "hint": 0.0,
        "imitated": corrections / rows,
    }
    if batch.teacher is not None and batch.teacher_rows is not None:
        longer = batch.teacher.lengths - lengths[batch.teacher_rows]
        found |= {"hinted": len(longer) / rows, "hint": float(longer.float().mean())}
    return found


def read_clock(trainer: Trainer) -> float:
    """Seconds that this thread computed, to which others do not add; of several ranks, which wait for one another, or
    of several threads, or beside a card, those that passed."""
    alone = trainer.world_size == 1 and torch.get_num_threads() == 1 and trainer.strategy.root_device.type == "cpu"
    return time.thread_time() if alone else time.perf_counter()


def read_memory() -> int:
    """Bytes of this process that are no file's; 0 where Linux does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def read_mapped_weights() -> int:
    """Bytes of weights' files that are mapped into this process and lie in memory: of weights that are held in the
    dtype of their file there is no copy. 0 where Linux does not tell."""
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return 0
    found, counted = 0, False
    for line in lines:
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):  # a mapping's own line; those below it end their first word so
            counted = line.endswith(".safetensors")
        elif first == "Rss:" and counted:
            found += 1024 * int(line.split()[1])
    return found
