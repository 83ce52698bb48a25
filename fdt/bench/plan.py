"""What `fdt bench signals` runs: settings of the world, arms, learning rates, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from fdt.shipped import resolve

CONFIG = "task/conventions"
BASE = "base"
ARMS = ("scores", "critiques", "both", "gated", "rewrites", "references", "stated", "shuffled")
SETTINGS: dict[str, dict[str, float]] = {
    "headline": {"coverage": 0.6, "noise": 0.1, "scored": 1.0},
    "sparse": {"coverage": 0.6, "noise": 0.1, "scored": 0.05},
}
"""Coverage and noise of critiques, and share of answers that are scored."""
LISTENING = ("scores", "both", "gated")
"""Arms that hear scores: the only ones that a sparse setting changes."""
GRID = (5e-4, 1e-3, 2e-3)
"""Learning rates tried for every arm, the same for each."""
TUNING_SEED = 1000
"""Seed of the world and of all draws on which rates are chosen; evaluation seeds count from 0."""
RATES: dict[str, dict[str, float]] = {
    "headline": dict.fromkeys(ARMS, 1e-3),
    "sparse": dict.fromkeys(LISTENING, 1e-3),
}
"""What is used without `--tune`: the middle of the grid for every arm, until a full run has chosen."""


@dataclass(frozen=True)
class Job:
    """One arm in one setting from one seed."""

    setting: str
    arm: str
    seed: int
    rate: float = 0.0
    """Learning rate; 0 for the base, which does not learn."""
    steps: int = 0
    """Optimiser steps; 0: as many as the config says."""

    config: ClassVar[str] = CONFIG
    """The shipped config; its ``arms`` hold what each arm overrides."""

    def environment(self) -> dict[str, Any]:
        """What setting and seed say to the environment."""
        return {**SETTINGS[self.setting], "world": self.seed}

    @property
    def name(self) -> str:
        """The job's folder below the bench's."""
        rate = f"-rate-{self.rate:g}" if self.rate else ""
        return f"{self.setting}/{self.arm}/seed-{self.seed}{rate}" + (f"-steps-{self.steps}" if self.steps else "")

    def overrides(self) -> list[dict[str, Any]]:
        """What the config is overridden with, in order: the arm, then this job's own."""
        content = yaml.safe_load(resolve(self.config).read_text(encoding="utf-8"))
        own: dict[str, Any] = {
            "seed_everything": self.seed,
            "model": {"seed": self.seed},
            "data": {"seed": self.seed, "environment": {"init_args": self.environment()}},
            "trainer": {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False},
        }
        if self.arm == BASE:
            return [own]
        own["model"]["optimizer"] = {"init_args": {"lr": self.rate}}
        own["trainer"] |= {
            "num_sanity_val_steps": 0,
            "callbacks": [
                {"class_path": "fdt.bench.watch.Watch"},
                {"class_path": "fdt.callbacks.Transcripts", "init_args": {"every_n_steps": 20}},
            ],
        } | ({"max_steps": self.steps} if self.steps else {})
        return [content["arms"][self.arm], own]

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def arms_of(setting: str, wanted: Sequence[str]) -> list[str]:
    """The wanted arms that this setting can tell apart from another setting's, in the table's order."""
    able = ARMS if SETTINGS[setting]["scored"] == 1.0 else LISTENING
    return [arm for arm in able if arm in wanted]


def tuning(settings: Sequence[str], wanted: Sequence[str], steps: int) -> list[Job]:
    """Each arm once at each rate of the grid."""
    return [
        Job(setting, arm, TUNING_SEED, rate, steps)
        for setting in settings
        for arm in arms_of(setting, wanted)
        for rate in GRID
    ]


def measuring(
    settings: Sequence[str], wanted: Sequence[str], rates: dict[str, dict[str, float]], seeds: int, steps: int
) -> list[Job]:
    """The base and each arm from each seed; seeds outermost, so that a run cut short holds whole seeds."""
    jobs = []
    for seed in range(seeds):
        for setting in settings:
            jobs.append(Job(setting, BASE, seed))
            jobs += [Job(setting, arm, seed, rates[setting][arm], steps) for arm in arms_of(setting, wanted)]
    return jobs


def best_rates(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each setting and arm the rate with the best held-out mean; of equals the lowest.

    Args:
        found: outcomes of the tuning jobs.
    """
    best: dict[str, dict[str, tuple[float, float]]] = {}
    for outcome in found:
        job, right = outcome["job"], sum(outcome["right"]) / len(outcome["right"])
        arms = best.setdefault(job["setting"], {})
        arms[job["arm"]] = max(arms.get(job["arm"], (-1.0, 0.0)), (right, -job["rate"]))
    return {setting: {arm: -rate for arm, (_, rate) in arms.items()} for setting, arms in best.items()}


def overlay(folder: Path, number: int, content: dict[str, Any]) -> Path:
    """Writes one override beside a job's folder."""
    path = folder.with_name(f"{folder.name}.{number}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
