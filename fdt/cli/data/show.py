"""`fdt data show`: what student and teacher read of a record, and which tokens train, by the collator that trains."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fdt.cli.reading import EpisodeReader, add_file, print_fault, to_one_line
from fdt.errors import UserError
from fdt.options import read_count
from fdt.policy.hub import DEFAULT, resolve_model
from feedback.aggregate import add_win_rates, aggregate_scores
from feedback.types import Episode, attach_hints

if TYPE_CHECKING:
    from fdt.data.collate import Collator
    from feedback.hints import Hint

HINTS = {
    "critique": "CritiqueHint",
    "sibling": "SiblingHint",
    "rewrite": "RewriteHint",
    "reference": "ReferenceHint",
    "demonstration": "DemonstrationHint",
    "composed": "ComposedHint",
}
NO_HINT = "none"

EPILOG = """\
examples:
  fdt data show mine.jsonl                           the first three records
  fdt data show mine.jsonl --id a17                  one record by its id
  fdt data show mine.jsonl --row 40 --limit 2        from the 40th record on
  fdt data show mine.jsonl --hint sibling --model path/to/model

On a terminal each token has its own shade and colours say what trains it; in a pipe tokens are set apart by |.
A record trains by its score (policy gradient), by its critique (the teacher re-reads the answer), by both, and by its
revision (imitated). How strongly a score counts depends on the run's credit and is not shown.
Control tokens are set off, so that text which looks like one is seen to be text.
"""


def add_to(commands: Any) -> None:
    """Adds the command to `fdt data`."""
    parser = commands.add_parser(
        "show",
        help="a record as student and teacher will read it, with the tokens that train",
        epilog=EPILOG,
        description="Shows records as training will see them. Loads a tokenizer, no model weights.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser)
    parser.add_argument(
        "--row", type=read_count, default=1, metavar="N", help="start at the N-th record, counted from 1"
    )
    parser.add_argument("--id", metavar="ID", help="the record of this id")
    parser.add_argument("--limit", type=read_count, default=3, metavar="N", help="records shown (default: 3)")
    parser.add_argument("--model", default=DEFAULT, help=f"whose tokenizer (default: {DEFAULT}): a name or a folder")
    parser.add_argument(
        "--hint",
        default="critique",
        metavar="KIND",
        help=f"the hint that the teacher reads: {', '.join(HINTS)}, a template file, or {NO_HINT} (default: critique)",
    )
    parser.add_argument(
        "--max-tokens",
        type=read_count,
        default=2048,
        metavar="N",
        help="as data.max_tokens: longer rows are dropped (default: 2048)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the records asked for; returns 0.

    Raises:
        UserError: no such record, a model without chat template, or text that training would refuse.
        DataError: a file or a hint template that cannot be read.
    """
    hint = _load_hint(args.hint)
    chosen = choose(args)
    collator = build_collator(args, hint)
    from fdt.cli.data.view import View, build_console

    view = View(build_console(), collator.tokenizer)
    view.print_legend()
    group = _load_groups(args, {episode.task.key for _, episode in chosen})
    if hint is not None:
        from feedback.hints import annotate_group

        group = annotate_group(hint, group)
    known = {episode.id: episode for episode in group}
    for number, episode in chosen:
        view.print_record(number, episode, collate(collator, known[episode.id]), collator)
        if refusal := find_refusal(known[episode.id], collator):
            view.print_refusal(refusal)
    return 0


def find_refusal(episode: Episode, collator: Collator) -> str | None:
    """Why training refuses an episode that can be rendered: what of it leaves no trace; None where it takes it."""
    from fdt.data.chat.conversations import check_conversations

    try:
        check_conversations([episode], collator.tokenizer)
    except UserError as fault:
        return str(fault)
    return None


def choose(args: argparse.Namespace) -> list[tuple[int, Episode]]:
    """The episodes asked for, each with the number of its record in the file, from 1.

    Raises:
        UserError: there is none.
        DataError: the file cannot be read.
    """
    # A fault of the file as a whole is raised below.
    reading = EpisodeReader(args, lambda fault: None if fault.line is None else print_fault(fault))
    chosen = []
    for episode in reading:
        if episode.id == args.id or (args.id is None and reading.record_count >= args.row):
            chosen.append((reading.record_count, episode))
        if len(chosen) >= (1 if args.id is not None else args.limit):
            break
    if not chosen and reading.broken:
        raise reading.broken
    if not chosen:
        key, got = ("--row", args.row) if args.id is None else ("--id", args.id)
        raise UserError("no such record", got=got, expected=f"one of the {reading.loaded_count} that load", key=key)
    return chosen


def _load_hint(name: str) -> Hint | None:
    from feedback import hints

    if name == NO_HINT:
        return None
    if name in HINTS:
        return getattr(hints, HINTS[name])()
    hints.load_template(name)  # a missing file is reported before anything slow
    return hints.CritiqueHint(name)


def _load_groups(args: argparse.Namespace, keys: set[str]) -> list[Episode]:
    """All records of some tasks as training has them: a hint and a comparison draw on the others of the group."""
    group = [episode for episode in EpisodeReader(args, lambda fault: None) if episode.task.key in keys]
    return attach_hints(add_win_rates(aggregate_scores(group)))


def collate(collator: Collator, episode: Episode) -> Any:
    """The rows that an episode becomes; None where it is dropped.

    Raises:
        UserError: an episode that training would refuse.
    """
    import torch

    collator.dropped.clear()
    collator.truncated.clear()
    try:
        return collator([episode], torch.zeros(1))
    except ValueError as error:
        raise UserError("training would refuse this record", got=str(error), key=to_one_line(episode.id)) from None


def build_collator(args: argparse.Namespace, hint: Hint | None) -> Collator:
    """The collator of a model's tokenizer, by `args.model` and `args.max_tokens`.

    Raises:
        UserError: no such model, or a tokenizer that cannot serve.
    """
    from transformers import AutoTokenizer

    from fdt.data.collate import Collator
    from fdt.policy.policy import check_tokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(args.model))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError("no tokenizer", got=args.model, remedy=reason, key="--model") from None
    check_tokenizer(tokenizer, args.model)
    return Collator(tokenizer, hint, args.max_tokens)
