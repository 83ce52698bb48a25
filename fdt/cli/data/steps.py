"""`fdt data steps`: solutions become the steps that SRL (arXiv 2510.25992) learns one by one, a row each."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from fdt.cli.data.convert import add_target, convert_file
from fdt.cli.reading import add_file, add_lenient
from fdt.data.tool_calls import format_calls
from feedback.hints.templates import load_template
from feedback.steps import build_samples, split_numbered, split_paragraphs
from feedback.types import Episode

SPLITS = {"numbered": split_numbered, "blank": split_paragraphs}

EPILOG = """\
examples:
  fdt data steps solutions.jsonl steps.jsonl
  fdt data steps solutions.jsonl steps.jsonl --split blank --lenient --rejects unparsable.jsonl
  fdt data steps trajectories.jsonl steps.jsonl --format episodes

A solution of N steps becomes N - 1 rows: the prompt holds the problem and the steps before, the response and reference
are the step. Steps of an answer are numbered from 1 at the beginnings of lines, or stand between blank lines; the steps
of a dialogue are its turns. A record without two steps leaves DST as it was, unless --lenient says to leave it out.

exit code: 0 written, 1 faults and nothing written, 2 wrong arguments
"""


def add_to(commands: Any) -> None:
    """Adds the command to `fdt data`."""
    parser = commands.add_parser(
        "steps",
        help="cut solutions into steps to learn one by one",
        epilog=EPILOG,
        description="Cuts expert solutions or trajectories into steps (SRL, arXiv 2510.25992).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser, "src")
    add_target(parser)
    parser.add_argument(
        "--split",
        choices=list(SPLITS),
        default="numbered",
        help="how the steps of one answer are found (default: numbered)",
    )
    parser.add_argument(
        "--template",
        default="next_step.txt",
        help="what the prompt says: a file with {question} and {steps} (default: next_step.txt)",
    )
    add_lenient(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Cuts `args.src` into `args.dst`; returns 0, or 1 where faults left DST as it was.

    Raises:
        DataError: no such template.
        UserError: as `fdt data convert`.
    """
    load_template(args.template)
    return convert_file(args, partial(build_rows, split=args.split, template=args.template), "without steps")


def build_rows(episode: Episode, split: str, template: str) -> Iterator[dict[str, Any]]:
    """A canonical row for each step; each is a task of its own, since another solution may go on differently."""
    score = {} if math.isnan(episode.score) else {"score": episode.score}
    for sample in build_samples(episode, SPLITS[split], template, lambda turn: format_calls(turn.calls)):
        name = f"{episode.id}/step-{sample.number}"
        yield {
            "id": name,
            "task": name,
            "prompt": list(sample.messages),
            "response": sample.target,
            "reference": sample.target,
            "step": sample.number,
            "problem": episode.task.key,
            **score,
        }
