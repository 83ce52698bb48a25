"""`fdt data`: look into a feedback file before training on it. Imports neither torch nor lightning nor datasets."""

from __future__ import annotations

import argparse
import sys

from fdt.cli.data import check, convert, show, stats, steps
from fdt.options import Parser

EPILOG = """\
a first look at a new file:
  fdt data check ratings.csv --scale 1 5     is it sound? every fault with its line
  fdt data stats ratings.csv --scale 1 5     what do the ratings and the texts look like?
  fdt data show ratings.csv --scale 1 5      what will the student and the teacher read?

`fdt data COMMAND --help` explains a command with examples.
"""


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code: 0 sound, 1 faults in the file, 2 a mistake in the command line.

    Raises:
        DataError: where a command cannot go on without the whole file.
        UserError: for arguments that contradict each other.
    """
    # Text that the terminal's encoding lacks is escaped, not a crash.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = _build_parser().parse_args(argv)
    return args.run(args)


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fdt data",
        description="Look into a feedback file before training on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (check, show, convert, steps, stats):
        module.add_to(commands)
    return parser
