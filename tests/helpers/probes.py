"""Callbacks for tests: one ends the process as a power cut would, one looks at what is held in memory."""

import os
import signal
from dataclasses import dataclass, replace
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from feedback.graders import Grader
from feedback.types import Episode, Feedback


class KillAt(Callback):
    def __init__(self, step: int) -> None:
        """
        Args:
            step: optimiser steps done when the process is killed, in the middle of the next one.
        """
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Lean(Callback):
    """Nothing but the policy is in memory."""

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held = sum(p.numel() for p in pl_module.parameters())
        policy = sum(p.numel() for p in pl_module.policy.parameters())
        print(f"lean: {not trainer.optimizers and held == policy}")

    on_validation_end = on_test_end = on_predict_end


@dataclass(frozen=True)
class EvenBytes(Grader):
    """Scores by the share of even bytes, so that random answers differ."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        return [e.add_feedback(Feedback("environment", score=self.score(e.response))) for e in episodes]

    @staticmethod
    def score(text: str) -> float:
        return sum(byte % 2 == 0 for byte in text.encode()) / max(1, len(text.encode()))


@dataclass(frozen=True)
class FlatTasks(EvenBytes):
    """The same for tasks of odd number; every answer to the others scores 1."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        found = super().__call__(episodes)
        return [e if int(e.task.key[1:]) % 2 else with_score(e, 1.0) for e in found]


def with_score(episode: Episode, score: float) -> Episode:
    """The episode with this score alone."""
    return replace(episode, feedback=(Feedback("environment", score=score),))
