"""`fdt bench calibration`: does a Brier reward mend stated confidence, at what price, and what does a sure teacher do?

Four users waver between conventions, each with a chance of their own, so that no answer is certain: whoever knows every
user's habit is right in half of the answers, and should state 0.8 to the steadiest user and 0.2 to the least steady.
The policy (`tiny-confidence`) starts with half of that knowledge and is too sure of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdt.bench.plan import BASE, Job

CONFIG = "task/confidence"
ARMS = ("plain", "brier", "brier_and_critiques", "split", "critiques")
WORLD = {"users": 4, "wavering": 0.8}
"""As in the config: users' chances to want another convention than theirs are 0.2, 0.4, 0.6 and 0.8."""
RATE = 5e-4
SHORT, FULL = 2, 5
EPILOG = """\
examples:
  fdt bench calibration                    two seeds (some four minutes on two quiet cores)
  fdt bench calibration --full             five seeds
  fdt bench calibration --arms plain brier --seeds 1

Jobs that are finished are kept: the same call again goes on where it was stopped.
"""


@dataclass(frozen=True)
class Stating(Job):
    """A run whose answers say how sure they are; a seed decides who wavers, and all draws."""

    config = CONFIG

    def environment(self) -> dict[str, Any]:
        return {**WORLD, "moods": self.seed}


def jobs_of(arms: Sequence[str], seeds: int, steps: int) -> list[Job]:
    """The base and each arm from each seed; seeds outermost, so that a run cut short holds whole seeds."""
    return [
        Stating("wavering", arm, seed, *((RATE, steps) if arm != BASE else ()))
        for seed in range(seeds)
        for arm in (BASE, *(arm for arm in ARMS if arm in arms))
    ]


def main(argv: list[str]) -> int:
    """Runs the bench; returns 0.

    Raises:
        UserError: where a job failed.
    """
    asked = _parser().parse_args(argv)
    from fdt.bench import run_jobs
    from fdt.bench.calibrated import answers, differences, drawn, levels
    from fdt.bench.reliability import Calibrations, as_json, as_markdown, picture, show

    seeds = asked.seeds or (FULL if asked.full else SHORT)
    outcomes = run_jobs(jobs_of(asked.arms, seeds, asked.steps), asked, "running")
    draws = drawn(outcomes)
    found = Calibrations(outcomes, levels(outcomes, draws), differences(draws), answers(draws))
    for kind, text in (("json", as_json(found)), ("md", as_markdown(found))):
        (asked.out / f"calibration.{kind}").write_text(text, encoding="utf-8")
    picture(found, asked.out / "calibration.png")
    show(found)
    print(f"picture, table and everything behind them: {asked.out}/calibration.png, .md, .json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fdt bench calibration", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, choices=range(1, 1000), metavar="N", help=f"{SHORT}; with --full {FULL}")
    parser.add_argument("--full", action="store_true", help=f"{FULL} seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"), help="where runs and results go")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="only these, and the base")
    steps = "optimiser steps of each arm (0: as the config says)"
    parser.add_argument("--steps", type=int, choices=range(100_000), metavar="N", default=0, help=steps)
    workers = "processes of one thread each"
    parser.add_argument("--workers", type=int, choices=range(1, 1000), metavar="N", default=2, help=workers)
    return parser
