"""`fdt critique`: a judge fills in what a feedback file lacks: scores, critiques, corrections. Imports no torch."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fdt.cli.filling import fill_feedback, select_rows
from fdt.cli.imports import add_flag
from fdt.cli.plugs import load_grader, split_flags
from fdt.cli.reading import (
    EpisodeReader,
    add_file,
    add_lenient,
    check_target,
    print_fault,
    replace_file,
    to_one_line,
)
from fdt.options import Parser
from feedback.graders import Grader, GraderChain, Judge, PairwiseJudge, Reviser, as_grader, require_self_test
from feedback.readers.formats.rows import build_row
from feedback.types import Episode, Feedback, collect_tasks
from feedback.writers import write_episodes, write_rows

STAND_IN = "x" * 400
"""A critique that is not written yet, for the price of its revision."""

EPILOG = """\
examples:
  fdt critique answers.jsonl --judge judge/local --out judged.jsonl --dry-run     what would it take?
  fdt critique answers.jsonl --judge judge/local --out judged.jsonl
  fdt critique answers.jsonl --judge judge/revise --out revised.jsonl
  fdt critique ratings.csv --scale 1 5 --judge mine.yaml --out judged.jsonl --self-test 20

CONFIG is a YAML file with `data.grader`, the very part that `fdt fit` reads; `fdt configs` lists the shipped ones under
judge/. Any setting can follow as a flag, as in
  --data.grader.init_args.gateway.base_url http://127.0.0.1:8000/v1 --data.grader.init_args.gateway.model my-model

What a row has stays: a judge's score, critique or revision is added only where the row has none. What a judge does not
answer readably stays absent and is counted by reason; it is never a 0. Replies are kept in the gateway's `cache`: after
an interruption, an outage or an exhausted budget, the same command goes on where it was, and pays for nothing twice.

exit code: 0 written, 1 faults in the file and nothing written, 2 wrong arguments, an outage, or the budget's end
"""


def main(argv: list[str]) -> int:
    """Runs the command; returns 0, or 1 where faults in the file left nothing to write.

    Raises:
        UserError: for arguments that make no sense.
        DataError: a config, a judge or a server that cannot be used (`GatewayStop` among them).
    """
    own, flags = split_flags(argv)
    args = build_parser().parse_args(own)
    check_target(Path(args.out), args.force, "--out")
    graders = [enable_progress(grader) for grader in flatten_chain(load_grader(args.judge, flags))]
    reading = EpisodeReader(args, print_fault)
    episodes = list(reading)
    print(reading.format_counts())
    if not reading.is_valid:
        return 1
    if args.dry_run:
        print(estimate_cost(graders, episodes))
        return 0
    if args.self_test:
        for judge in [grader for grader in graders if isinstance(grader, Judge) and not isinstance(grader, Reviser)]:
            result = require_self_test(judge, collect_tasks(episodes)[: args.self_test])
            print(f"self-test: {result.wins.total()} wins of {result.num_graded} answers without content")
    graded = episodes
    for grader in graders:
        graded = fill_feedback(grader, graded)
    write(Path(args.out), graded)
    print(summarise(graders, episodes, graded, args.out))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The arguments, without the judge's own."""
    made = Parser(
        prog="fdt critique",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        description="Has a judge add scores, critiques and corrections to the rows of a feedback file that lack them.",
    )
    add_file(made)
    made.add_argument("--judge", metavar="CONFIG", required=True, help="a YAML file, or a shipped one: judge/local")
    made.add_argument("--out", metavar="OUT", required=True, help="the file to write; its ending says how")
    made.add_argument("--force", action="store_true", help="replace OUT where it exists")
    made.add_argument("--dry-run", action="store_true", help="say what it would take, and send nothing")
    made.add_argument(
        "--self-test",
        type=int,
        default=0,
        metavar="N",
        help="first try the judge on answers without content to N prompts; stop where over 2 %% win",
    )
    add_lenient(made)
    add_flag(made)
    return made


def flatten_chain(grader: Grader) -> Iterator[Grader]:
    """The graders of a chain one by one."""
    if isinstance(grader, GraderChain):
        for each in grader.graders:
            yield from flatten_chain(as_grader(each))
    else:
        yield grader


def enable_progress(grader: Grader) -> Grader:
    """The grader with its gateway's bar."""
    return replace(grader, gateway=replace(grader.gateway, progress=True)) if isinstance(grader, Judge) else grader


def estimate_cost(graders: list[Grader], episodes: list[Episode]) -> str:
    """What the job would take, judge by judge."""
    lines = []
    for judge in graders:
        rows = select_rows(judge, episodes)
        if not isinstance(judge, Judge):
            continue
        found = judge.gateway.estimate_cost(judge.build_requests([episodes[row] for row in rows]))
        budget = judge.gateway.budget
        cost = f", cost about {found.cost:.4f}, at most {found.most:.4f}" if budget.has_prices else ", no prices set"
        lines.append(
            f"{type(judge).__name__} at {judge.gateway.model}: {len(rows)} rows, {found.requests} replies, "
            f"{found.requests - found.calls} of them kept or equal, {found.calls} calls, about "
            f"{found.usage.prompt} tokens read and up to {found.usage.completion} written{cost}"
        )
        if not isinstance(judge, Reviser | PairwiseJudge):
            episodes = [e if e.critique else e.add_feedback(Feedback("llm", text=STAND_IN)) for e in episodes]
    return "\n".join(lines)


def summarise(graders: list[Grader], before: list[Episode], after: list[Episode], out: str) -> str:
    """What was added, what stayed unscored and why, and what the judges' folders have taken so far."""

    def count_signals(episodes: list[Episode]) -> list[int]:
        return [
            sum(not math.isnan(e.score) for e in episodes),
            sum(e.critique is not None for e in episodes),
            sum(e.revision is not None for e in episodes),
        ]

    counts = zip(("scores", "critiques", "revisions"), count_signals(before), count_signals(after), strict=True)
    lines = [f"{out}: {len(after)} rows", *(f"  {name}: {new} ({new - old} new)" for name, old, new in counts)]
    judges = [grader for grader in graders if isinstance(grader, Judge)]
    unread: Counter[str] = sum((judge.unscored for judge in judges), Counter())
    if unread:
        reasons = ", ".join(f"{reason} {count}" for reason, count in unread.most_common())
        lines.append(f"  without a readable judgement: {unread.total()} ({reasons})")
    for cache, gateway in {judge.gateway.cache: judge.gateway for judge in judges}.items():
        calls, usage = gateway.get_usage()
        cost = f", cost {gateway.budget.compute_cost(usage):.4f}" if gateway.budget.has_prices else ""
        lines.append(f"  {cache}: {calls} calls and {usage.total} tokens so far{cost}")
    return "\n".join(map(to_one_line, lines))


def write(target: Path, episodes: list[Episode]) -> None:
    """Writes rows, or episodes where one of them does not fit into a row; whole or not at all."""
    with replace_file(target) as part:
        try:
            write_rows(part, [build_row(episode) for episode in episodes])
        except ValueError:
            write_episodes(part, episodes)
