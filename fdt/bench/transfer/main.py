"""`fdt bench transfer`: its command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdt.errors import UserError

if TYPE_CHECKING:
    from fdt.bench.transfer.jobs import TransferJob
    from fdt.bench.transfer.results import Measured

NAME = "transfer"
ABOUT = """\
What training on one kind of prompt does to the others, and what the order that follows from it is worth.

Trains one config on each data set alone, from the same start, and measures all of them: the transfer matrix, which
`fdt.rollout.curricula.ByTransfer` reads. Then trains on all of them, from seeds of their own: shuffled together, in the
predicted order, and in its reverse, as many rollouts for each data set. A run that is finished is kept: the same call
again goes on where it was stopped.
"""
EPILOG = """\
examples:
  fdt bench transfer                                    three kinds of prompt in the small world
  fdt bench transfer --seeds 5 --orders lists,names,ascents
  fdt bench transfer --config mine.yaml --datasets mathematics code writing --rollouts 50 --matrix-only
"""
CONFIG = "task/three_kinds"
DATASETS = ("lists", "names", "ascents")


def add_parser(verbs: Any, formatter: Any) -> None:
    """Adds this bench to the command line of `fdt bench`."""
    own = verbs.add_parser(
        NAME,
        help=ABOUT.partition("\n")[0],
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    own.add_argument("--config", default=CONFIG, help=f"the config, whose curriculum is replaced ({CONFIG})")
    own.add_argument("--datasets", nargs="+", metavar="NAME", help="the data sets; of a config of your own, name them")
    own.add_argument("--column", default="dataset", help="the column of a prompt that names its data set (dataset)")
    own.add_argument("--rollouts", type=int, default=30, help="rollouts for each data set (30)")
    own.add_argument("--seeds", type=int, default=3, help="seeds of the matrix, and as many of the orders (3)")
    own.add_argument("--orders", nargs="+", default=[], metavar="A,B,C", help="further orders to train")
    own.add_argument("--matrix-only", action="store_true", help="measure the matrix, train no order")
    own.add_argument("--out", type=Path, default=Path("runs") / NAME, help=f"where runs and results go (runs/{NAME})")
    own.add_argument("--workers", type=int, default=2, help="processes of one thread each (2)")


def run_transfer(args: argparse.Namespace) -> int:
    """Measures, trains and reports; returns 0.

    Raises:
        UserError: where data sets are not named, an order is none of theirs, or a run failed.
    """
    from fdt.bench.transfer import jobs, results
    from fdt.rollout.curricula.transfer import find_best_order, write_matrix

    datasets = _choose_datasets(args)
    further = _read_orders(args.orders, datasets)
    common = (args.rollouts, args.seeds, args.column)
    singles = _measure(jobs.build_single_jobs(args.config, datasets, *common), datasets, args)
    matrix, changes = results.build_matrix(singles)
    facts = {"config": args.config, "rollouts": args.rollouts, "seeds": args.seeds}
    intervals = {i: {j: [v.low, v.high] for j, v in row.items()} for i, row in changes.items()}
    write_matrix(args.out / "matrix.json", matrix, facts | {"intervals": intervals})
    stages: dict[str, tuple[tuple[str, ...], ...]] = {}
    if not args.matrix_only:
        best = find_best_order(matrix, datasets)
        stages = {
            jobs.JOINT: (datasets,),
            "predicted": tuple((name,) for name in best),
            "reversed": tuple((name,) for name in best[::-1]),
        }
        stages |= {",".join(o): tuple((name,) for name in o) for o in further if o not in (best, best[::-1])}
    arms = _measure(jobs.build_order_jobs(args.config, stages, *common), datasets, args)
    text = results.write_tables(matrix, changes, arms, stages, jobs.JOINT)
    results.write_text(args.out / "transfer.md", text)
    summary = {"stages": stages, "arms": results.build_summary(arms, jobs.JOINT)}
    results.write_text(args.out / "transfer.json", json.dumps(facts | summary, indent=1))
    print(text)
    print(f"matrix, tables and everything behind them: {args.out}/matrix.json, transfer.md, transfer.json")
    return 0


def _choose_datasets(args: argparse.Namespace) -> tuple[str, ...]:
    if args.datasets is None and args.config != CONFIG:
        expected = "the names of its data sets"
        raise UserError("--datasets", got="none", expected=expected, remedy="as in: --datasets mathematics writing")
    found = tuple(args.datasets or DATASETS)
    if len(set(found)) < max(2, len(found)):
        raise UserError("--datasets", got=" ".join(found), expected="two or more, each once")
    if min(args.rollouts, args.seeds, args.workers) < 1:
        got = f"rollouts {args.rollouts}, seeds {args.seeds}, workers {args.workers}"
        raise UserError("fdt bench transfer", got=got, expected="at least 1 of each")
    return found


def _read_orders(orders: Sequence[str], datasets: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = [tuple(order.split(",")) for order in orders]
    for order in found:
        if sorted(order) != sorted(datasets):
            raise UserError("--orders", got=",".join(order), expected=f"each of {', '.join(datasets)} once")
    return found


def _measure(
    arms: dict[str, list[TransferJob]], datasets: tuple[str, ...], args: argparse.Namespace
) -> dict[str, list[Measured]]:
    """Runs what has not run yet, and reads what all runs left."""
    from fdt.bench.transfer.jobs import read_scores
    from fdt.bench.transfer.results import Measured
    from fdt.bench.work import run_all

    needed = list({job.name: job for jobs in arms.values() for job in jobs}.values())
    began = time.monotonic()
    for number, outcome in enumerate(run_all(needed, args.out, args.workers), 1):
        told = " -> ".join("+".join(stage) for stage in outcome["job"]["stages"])
        place = f"{number} of {len(needed)}, {time.monotonic() - began:.0f} s"
        print(f"{told}, seed {outcome['job']['seed']} ({place})", file=sys.stderr, flush=True)
    return {
        arm: [
            Measured(*(read_scores(args.out / job.name, when, datasets) for when in ("base", "last"))) for job in jobs
        ]
        for arm, jobs in arms.items()
    }
