"""The runs behind a transfer matrix, and those that hold its order against others: one config under other curricula."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdt.bench.base import TUNING_SEED
from fdt.errors import UserError
from fdt.evaluation.returns import DATASET

JOINT = "joint"
"""The arm that shuffles all data sets together."""
Scores = dict[str, dict[str, float]]
"""For each data set the score of each held-out prompt, by its id."""


@dataclass(frozen=True)
class TransferJob:
    """A run of one config, whose stages are these, as many rollouts for each data set in all."""

    config: str
    stages: tuple[tuple[str, ...], ...]
    rollouts: int
    """Rollouts for each data set."""
    seed: int
    column: str = DATASET
    arm: str = "stages"

    @property
    def name(self) -> str:
        """The run's folder below the bench's."""
        stages = "-".join("+".join(stage) for stage in self.stages)
        return f"rollouts-{self.rollouts}/{stages}/seed-{self.seed}"

    def build_overrides(self) -> list[dict[str, Any]]:
        """What the config is overridden with."""
        stages = [{"datasets": [*stage], "rollouts": self.rollouts * len(stage)} for stage in self.stages]
        curriculum = {
            "class_path": "fdt.rollout.curricula.Stages",
            "init_args": {"stages": stages, "column": self.column},
        }
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        return [
            {
                "seed_everything": self.seed,
                "model": {"seed": self.seed},
                "data": {"seed": self.seed, "source": {"init_args": {"curriculum": curriculum}}},
                # An epoch is all stages; measured before it and after it.
                "trainer": quiet
                | {"max_epochs": 1, "max_steps": -1, "num_sanity_val_steps": -1, "check_val_every_n_epoch": 1},
            }
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_single_jobs(
    config: str, datasets: tuple[str, ...], rollouts: int, seeds: int, column: str
) -> dict[str, list[TransferJob]]:
    """For each data set the runs on it alone, from seeds of their own: no order is judged by what it was chosen by."""
    numbers = range(TUNING_SEED, TUNING_SEED + seeds)
    return {name: [TransferJob(config, ((name,),), rollouts, seed, column) for seed in numbers] for name in datasets}


def build_order_jobs(
    config: str, arms: dict[str, tuple[tuple[str, ...], ...]], rollouts: int, seeds: int, column: str
) -> dict[str, list[TransferJob]]:
    """For each arm its runs, one a seed."""
    return {
        arm: [TransferJob(config, stages, rollouts, seed, column) for seed in range(seeds)]
        for arm, stages in arms.items()
    }


def read_scores(folder: Path, when: str, datasets: tuple[str, ...]) -> Scores:
    """Held-out scores of a run.

    Args:
        folder: of the run.
        when: base (before training) or last (after it).

    Raises:
        UserError: where no held-out prompt of one of the data sets has a score.
    """
    path = folder / "eval" / f"{when}.jsonl"
    found: Scores = {name: {} for name in datasets}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get(DATASET) in found and record.get("score") is not None:
            found[record[DATASET]][record["id"]] = record["score"]
    for name, scores in found.items():
        if not scores:
            raise UserError(
                "no held-out prompt with a score of a data set",
                got=f"none of {name}",
                expected="some of each, with the column that names their data set",
                path=path,
                remedy="hold some out, measured by answers (data.evaluation)",
            )
    return found
