"""What every bench is made of: jobs, which are real runs, and a way to read what they left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from numpy.typing import NDArray

from fdt.resources import resolve

BASE = "base"
"""The arm that does not learn."""
TUNING_SEED = 1000
"""Seed of the world and of all draws on which rates are chosen; evaluation seeds count from 0."""

Outcome = dict[str, Any]
"""What one job left: job, seconds, right, prompts and confidence [P] (held-out, at the end; None: no confidence that
can be read), steps and heldout (while learning)."""
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rollouts spent [n], and a share [n] after each."""


@dataclass(frozen=True)
class Job(ABC):
    """One arm in one setting from one seed: a run of a shipped config with overrides."""

    setting: str
    arm: str
    seed: int
    rate: float = 0.0
    """Learning rate; 0 for the base, which does not learn."""
    steps: int = 0
    """Optimiser steps; 0: as many as in the config."""

    config: ClassVar[str]
    """The shipped config; its ``arms`` hold what each arm overrides."""
    is_right_path: ClassVar[str]
    """Dotted path of the function that finds whether a training episode was truly right."""
    measure_before: ClassVar[bool] = False
    """Whether held-out prompts are measured before the first step too."""

    @abstractmethod
    def build_environment_args(self) -> dict[str, Any]:
        """The environment's arguments for this setting and seed."""

    @property
    def name(self) -> str:
        """The job's folder below the bench's."""
        rate = f"-rate-{self.rate:g}" if self.rate else ""
        return f"{self.setting}/{self.arm}/seed-{self.seed}{rate}" + (f"-steps-{self.steps}" if self.steps else "")

    def build_overrides(self) -> list[dict[str, Any]]:
        """What the config is overridden with, in order: the arm, then this job's own."""
        own: dict[str, Any] = {
            "seed_everything": self.seed,
            "model": {"seed": self.seed},
            "data": {"seed": self.seed, "environment": {"init_args": self.build_environment_args()}},
            "trainer": {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False},
        }
        if self.arm == BASE:
            return [own]
        own["model"]["optimizer"] = {"init_args": {"lr": self.rate}}
        own["trainer"] |= {
            "num_sanity_val_steps": -1 if self.measure_before else 0,
            "callbacks": [
                {"class_path": "fdt.bench.recorder.JobRecorder", "init_args": {"is_right": self.is_right_path}},
                {"class_path": "fdt.callbacks.Transcripts", "init_args": {"every_n_steps": 20}},
            ],
        } | ({"max_steps": self.steps} if self.steps else {})
        return [yaml.safe_load(resolve(self.config).read_text(encoding="utf-8"))["arms"][self.arm], own]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Bench(ABC):
    """What is run; its docstring explains it in ``--help``. Running and resuming are shared, and so is how most benches
    are read (`fdt.bench.compare.Comparison`)."""

    name: str
    job: type[Job]
    arms: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    grid: tuple[float, ...]
    """Learning rates tried for every arm, the same for each; with one alone, nothing is tuned."""
    rates: dict[str, dict[str, float]]
    """What is used without `--tune`, for each setting and arm."""
    seeds: tuple[int, int]
    """Of the short form, and of the full one."""
    short_arms: tuple[str, ...] = ()
    """Arms of the short form; none named: all."""
    short_settings: tuple[str, ...] = ()
    """Settings of the short form; none named: all."""

    def find_equal(self, job: Job) -> Job:
        """The job whose run is this one's too, where a setting changes nothing that the arm reads; else itself."""
        return job


def select_arms(bench: Bench, wanted: Sequence[str]) -> list[str]:
    """The wanted arms, in the table's order."""
    return [arm for arm in bench.arms if arm in wanted]


def build_tuning_jobs(bench: Bench, settings: Sequence[str], wanted: Sequence[str], steps: int) -> list[Job]:
    """Each arm once at each rate of the grid."""
    return [
        bench.job(setting, arm, TUNING_SEED, rate, steps)
        for setting in settings
        for arm in select_arms(bench, wanted)
        for rate in bench.grid
    ]


def build_measuring_jobs(
    bench: Bench,
    settings: Sequence[str],
    wanted: Sequence[str],
    rates: dict[str, dict[str, float]],
    seeds: int,
    steps: int,
) -> list[Job]:
    """The base and each arm from each seed; seeds outermost, so that a run cut short holds whole seeds."""
    jobs = []
    for seed in range(seeds):
        for setting in settings:
            jobs.append(bench.job(setting, BASE, seed))
            arms = select_arms(bench, wanted)
            jobs += [bench.job(setting, arm, seed, rates[setting][arm], steps) for arm in arms]
    return jobs


def choose_best_rates(found: list[Outcome]) -> dict[str, dict[str, float]]:
    """For each setting and arm the rate with the best held-out mean; of equals the lowest.

    Args:
        found: outcomes of the tuning jobs.
    """
    best: dict[str, dict[str, tuple[float, float]]] = {}
    for outcome in found:
        job = outcome["job"]
        right = sum(outcome["right"]) / len(outcome["right"])
        arms = best.setdefault(job["setting"], {})
        arms[job["arm"]] = max(arms.get(job["arm"], (-1.0, 0.0)), (right, -job["rate"]))
    return {setting: {arm: -rate for arm, (_, rate) in arms.items()} for setting, arms in best.items()}


def write_overlay(folder: Path, number: int, content: dict[str, Any]) -> Path:
    """Writes one override beside a job's folder."""
    path = folder.with_name(f"{folder.name}.{number}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
