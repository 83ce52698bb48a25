"""`fdt annotate`: its command line."""

from __future__ import annotations

import argparse

from fdt.cli.reading import add_file, add_points
from fdt.cli.web.server import add_address
from fdt.errors import UserError
from fdt.options import Parser
from fdt.policy.hub import DEFAULT

EPILOG = """\
examples:
  fdt annotate answers.jsonl                 a page at http://127.0.0.1:8765/ with these answers
  fdt annotate runs/mine                     the held-out answers of a run
  fdt annotate runs/mine/transcripts.jsonl   what it answered in training
  fdt annotate live.jsonl                    the log that `fdt serve` is writing, new turns as they come
  fdt fit -c quickstart --data.file answers.judged.jsonl

Everybody who judges says a name once; two people may work at the same time, each sees only what they said.
Keys: 1 to 5 score, c critique, e correction, j and k the turn that it is about, Enter the next answer, u undo, ? all.

Each judgement is on the disk before the page says that it is saved, as a line of NAME.judged.jsonl beside the file. It
is a feedback file like any other, which `fdt fit`, `fdt data` and `fdt annotate` itself read; nothing in it is ever
overwritten. docs/annotate.md says more.
"""


def main(argv: list[str]) -> int:
    """Runs the page until Ctrl-C.

    Raises:
        UserError: nothing to judge, a target that is something else, or an address that is taken.
        DataError: a file that cannot be read.
    """
    args = _build_parser().parse_args(argv)
    low, high = args.points
    if not 0 <= low < high <= 9:
        raise UserError("points", got=f"{low} {high}", expected="two of 0 to 9, the lower first", key="--points")
    from fdt.cli.annotate.run import run  # after the arguments: a server's libraries are imported for it alone

    run(args)
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fdt annotate",
        description="A page in the browser where people read answers, score them, say what is wrong, and correct them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(parser)
    parser.add_argument("--out", metavar="LOG", help="where judgements go (default: NAME.judged.jsonl beside the file)")
    add_points(parser, "lowest and highest score that the page gives, by one key each (default: 1 5)")
    parser.add_argument("--lenient", action="store_true", help="leave out records that cannot be read")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        help=f"whose tokenizer shows what student and teacher will read (default: {DEFAULT}): a name or a folder",
    )
    add_address(parser, 8765)
    return parser
