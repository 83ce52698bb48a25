"""Callbacks for tests: one ends the process as a power cut would, one looks at what is held in memory."""

import math
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.callbacks.access import get_experience
from feedback.graders import Grader
from feedback.skills import Skill, SkillWriter, Written
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
class CriticisesBytes(EvenBytes):
    """The same with a critique, in the words of the answer's own bytes, so that hardly two are equal."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        said = [f"Even are {sum(b % 2 == 0 for b in e.response.encode())}: {e.response!r}." for e in episodes]
        judged = [
            Feedback("environment", score=self.score(e.response), text=words)
            for e, words in zip(episodes, said, strict=True)
        ]
        return [e.add_feedback(one) for e, one in zip(episodes, judged, strict=True)]


@dataclass(frozen=True)
class FlatTasks(EvenBytes):
    """The same for tasks of odd number; every answer to the others scores 1."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        found = super().__call__(episodes)
        return [e if int(e.task.key[1:]) % 2 else with_score(e, 1.0) for e in found]


def with_score(episode: Episode, score: float) -> Episode:
    """The episode with this score alone."""
    return replace(episode, feedback=(Feedback("environment", score=score),))


@dataclass(frozen=True)
class FailsOnRank(EvenBytes):
    """The same, until one rank fails in its grader."""

    how: str = "hang"
    """hang, kill or raise."""
    rank: int = 1
    after: int = 2
    """Calls that go well: the first measures the base."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        count = vars(self).get("count", 0) + 1
        vars(self)["count"] = count
        if count > self.after and os.environ.get("LOCAL_RANK", "0") == str(self.rank):
            if self.how == "hang":
                time.sleep(10_000)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the grader of this rank fails")
        return super().__call__(episodes)


class Poison(Callback):
    """Makes the log-probs of one sample of one rank NaN in one step."""

    def __init__(self, step: int, rank: int = 0, times: int = 1) -> None:
        """
        Args:
            step: optimiser steps done before.
            rank: whose sample.
            times: steps in a row.
        """
        self.step = step
        self.rank = rank
        self.left = times

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and self.left and trainer.global_rank == self.rank:
            self.left -= 1
            rollouts = batch.rollouts
            row = int(rollouts.episode[0])
            rollouts.advantages[rollouts.episode == row] = math.nan
            print(f"poison: {batch.episodes[row].id}", flush=True)


class KeepBank(Callback):
    """Writes each rank's bank of skills after each step."""

    def __init__(self, folder: str) -> None:
        """
        Args:
            folder: where; a file for each rank and step.
        """
        self.folder = Path(folder)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        path = self.folder / f"{trainer.global_step}-{trainer.global_rank}.json"
        get_experience(trainer).skills.bank.save(path)


class Resources(Callback):
    """Writes memory in use [MB] and open files after each step."""

    def __init__(self, path: str) -> None:
        """
        Args:
            path: the CSV file.
        """
        self.path = Path(path)
        self.path.write_text("step,mb,files\n")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(os.listdir("/proc/self/fd"))
        with self.path.open("a") as file:
            file.write(f"{trainer.global_step},{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.1f},{files}\n")


@dataclass(frozen=True)
class SaysNothing(SkillWriter):
    """As a judge whose every reply is unreadable."""

    def __call__(self, attempts: Any, known: Any, most: int) -> Written:
        return Written((), Counter({"no JSON": len(attempts)}))


@dataclass(frozen=True)
class WordsCalls(SkillWriter):
    """Words one skill a call: which rank asked, how often it has, and about which tasks."""

    folder: str
    """Each call leaves a file here, named by its rank and number."""

    def __call__(self, attempts: Any, known: Any, most: int) -> Written:
        count = vars(self).get("count", 0) + 1
        vars(self)["count"] = count
        tasks = tuple(sorted({attempt.episode.task.key for attempt in attempts}))
        rank = os.environ.get("LOCAL_RANK", "0")
        words = f"Heed call {count} of rank {rank}."
        Path(self.folder).mkdir(exist_ok=True)
        (Path(self.folder) / f"{rank}-{count}").touch()
        case = attempts[0].episode.task.messages[-1]["content"]
        return Written((Skill(title="Rule", principle=words, kind="lesson", when_to_apply=case, tasks=tasks),))
