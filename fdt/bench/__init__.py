"""`fdt bench signals`: which signal teaches what, on the small world, against fair baselines, with intervals.

`fdt bench calibration` (its own --help): what a Brier reward and critiques do to stated confidence.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdt.bench.plan import ARMS, RATES, SETTINGS, Job, best_rates, measuring, tuning

EPILOG = """\
examples:
  fdt bench signals                        three seeds, rates as shipped (at most ten minutes on two cores)
  fdt bench signals --full                 five seeds, rates tuned afresh on a seed of their own
  fdt bench signals --settings sparse --arms scores both --seeds 1

Jobs that are finished are kept: the same call again goes on where it was stopped.
"""
SHORT, FULL = 3, 5


def main(argv: list[str]) -> int:
    """Runs a bench; returns 0, or 1 where one of its guards fell.

    Raises:
        UserError: where a job failed.
    """
    if argv[:1] == ["calibration"]:
        from fdt.bench import calibration

        return calibration.main(argv[1:])
    asked = _parser().parse_args(argv)
    from fdt.bench.results import deceived, differences, levels
    from fdt.bench.show import as_json, as_markdown, picture, show

    rates = RATES
    if asked.tune or asked.full:
        found = run_jobs(tuning(asked.settings, asked.arms, asked.steps), asked, "tuning")
        rates = best_rates(found)
    seeds = asked.seeds or (FULL if asked.full else SHORT)
    found = run_jobs(measuring(asked.settings, asked.arms, rates, seeds, asked.steps), asked, "measuring")
    rows = [row for setting in asked.settings for row in levels(found, setting)]
    gaps = [gap for setting in asked.settings for gap in differences(found, setting)]
    for name, text in (("json", as_json(found, rows, gaps)), ("md", as_markdown(found, rows, gaps))):
        (asked.out / f"signals.{name}").write_text(text, encoding="utf-8")
    picture(found, rows, asked.out / "signals.png")
    show(found, rows, gaps)
    print(f"picture, table and everything behind them: {asked.out}/signals.png, .md, .json")
    return 1 if deceived(gaps) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fdt bench", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=["signals", "calibration"], help="which bench")
    parser.add_argument("--seeds", type=_positive, help=f"seeds of the measurement ({SHORT}; with --full {FULL})")
    parser.add_argument("--full", action="store_true", help=f"{FULL} seeds, and --tune")
    parser.add_argument("--tune", action="store_true", help="choose each arm's rate afresh, on a seed of its own")
    parser.add_argument("--out", type=Path, default=Path("runs/signals"), help="where runs and results go")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="only these, and the base")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="only these")
    parser.add_argument("--steps", type=_positive, default=0, help="optimiser steps of each arm (as the config says)")
    parser.add_argument("--workers", type=_positive, default=2, help="processes of one thread each")
    return parser


def run_jobs(jobs: Sequence[Job], asked: argparse.Namespace, what: str) -> list[dict[str, Any]]:
    """The outcomes of the jobs; a bar on a terminal, else a line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from fdt.bench.work import run_all

    asked.out.mkdir(parents=True, exist_ok=True)
    found, began = [], time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=len(jobs))
        for outcome in run_all(list(jobs), asked.out, asked.workers):
            found.append(outcome)
            name = type(jobs[0])(**outcome["job"]).name
            bar.update(task, advance=1, description=f"{what}: {name}")
            if bar.disable:
                right = sum(outcome["right"]) / len(outcome["right"])
                place = f"{len(found)} of {len(jobs)}, {time.monotonic() - began:.0f} s"
                print(f"{what}: {name}: {right:.1%} right ({place})", file=sys.stderr, flush=True)
    return found


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {value}, expected at least 1")
    return value
