"""`fdt bench NAME`: arms of one config against each other over seeds, with intervals, tables and a picture."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fdt.bench.base import Bench, Job, Outcome, build_measuring_jobs, build_tuning_jobs, choose_best_rates
from fdt.bench.transfer import main as transfer
from fdt.options import Parser, read_count

BENCHES = {
    "signals": ("fdt.bench.signals", "Signals"),
    "credit": ("fdt.bench.credit", "AdvantageBench"),
    "calibration": ("fdt.bench.calibration", "Calibration"),
    "emphasis": ("fdt.bench.emphasis", "Emphasis"),
}
"""Where each bench is: module and class."""
EPILOG = """\
examples:
  fdt bench signals                        the mix and its rivals, three seeds, rates as shipped (ten minutes)
  fdt bench signals --full                 five seeds, rates tuned afresh on a seed of their own
  fdt bench signals --settings sparse --arms scores both --seeds 1
  fdt bench credit                         which moves get the advantage of a return, and what that does
  fdt bench calibration                    what a Brier reward and critiques do to stated confidence (some four minutes)
  fdt bench transfer                       what one kind of prompt does to another, and the order that follows from it
  fdt bench emphasis --full                should plans, wins or losses get more weight? five seeds

Jobs that are finished are kept: the same call again goes on where it was stopped.
"""


def main(argv: list[str]) -> int:
    """Runs a bench; returns 0, or 1 where one of its guards fell.

    Raises:
        UserError: where a job failed.
    """
    benches = [getattr(importlib.import_module(module), name)() for module, name in BENCHES.values()]
    args = _build_parser(benches).parse_args(argv)
    if args.bench == transfer.NAME:
        return transfer.run_transfer(args)
    bench = next(bench for bench in benches if bench.name == args.bench)
    args.out = args.out or Path("runs") / bench.name
    args.arms = args.arms or list((not args.full and bench.short_arms) or bench.arms)
    args.settings = args.settings or list((not args.full and bench.short_settings) or bench.settings)
    rates = bench.rates
    if len(bench.grid) > 1 and (args.tune or args.full):
        rates = choose_best_rates(
            _run(bench, build_tuning_jobs(bench, args.settings, args.arms, args.steps), args, "tuning")
        )
    seeds = args.seeds or bench.seeds[args.full]
    jobs = build_measuring_jobs(bench, args.settings, args.arms, rates, seeds, args.steps)
    outcomes = _run(bench, jobs, args, "measuring")
    from fdt.bench.reports import report_bench  # brings numpy and matplotlib

    fallen = report_bench(bench, outcomes, args.out)
    print(f"picture, table and everything behind them: {args.out}/{bench.name}.png, .md, .json")
    return 1 if fallen else 0


def _build_parser(benches: Sequence[Bench]) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="fdt bench", description=__doc__, epilog=EPILOG, formatter_class=raw, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="bench", required=True, metavar="NAME")
    for bench in benches:
        about = inspect.getdoc(bench) or ""
        own = verbs.add_parser(
            bench.name,
            help=about.partition("\n\n")[0],
            description=about,
            epilog=EPILOG,
            formatter_class=raw,
            allow_abbrev=False,
        )
        short, full = bench.seeds
        own.add_argument("--seeds", type=read_count, help=f"seeds of the measurement ({short}; with --full {full})")
        if len(bench.grid) > 1:
            own.add_argument("--full", action="store_true", help=f"{full} seeds, and --tune")
            own.add_argument("--tune", action="store_true", help="choose each arm's rate afresh, on a seed of its own")
        else:
            own.add_argument("--full", action="store_true", help=f"{full} seeds")
        own.add_argument("--out", type=Path, help=f"where runs and results go (runs/{bench.name})")
        arms = list(bench.arms)
        settings = list(bench.settings)
        own.add_argument(
            "--arms", nargs="+", choices=arms, help=f"only these, and the base ({name_choice(bench.short_arms)})"
        )
        own.add_argument(
            "--settings", nargs="+", choices=settings, help=f"only these ({name_choice(bench.short_settings)})"
        )
        own.add_argument("--steps", type=read_count, default=0, help="optimiser steps of each arm (as the config says)")
        own.add_argument("--workers", type=read_count, default=2, help="processes of one thread each")
    transfer.add_parser(verbs, raw)
    return parser


def name_choice(short: Sequence[str]) -> str:
    """What runs where nothing is named."""
    return f"{', '.join(short)}; with --full all" if short else "all"


def _run(bench: Bench, jobs: Sequence[Job], args: argparse.Namespace, what: str) -> list[Outcome]:
    """The outcomes of the jobs, of which equal ones run once; a bar on a terminal, else a line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from fdt.bench.work import run_all

    args.out.mkdir(parents=True, exist_ok=True)
    equal = {job: bench.find_equal(job) for job in jobs}
    needed = list(dict.fromkeys(equal.values()))
    found: dict[str, Outcome] = {}
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=len(needed))
        for outcome in run_all(needed, args.out, args.workers):
            name = type(jobs[0])(**outcome["job"]).name
            found[name] = outcome
            bar.update(task, advance=1, description=f"{what}: {name}")
            if bar.disable:
                right = sum(outcome["right"]) / len(outcome["right"])
                place = f"{len(found)} of {len(needed)}, {time.monotonic() - began:.0f} s"
                print(f"{what}: {name}: {right:.1%} right ({place})", file=sys.stderr, flush=True)
    return [found[equal[job].name] | {"job": job.to_dict()} for job in jobs]
