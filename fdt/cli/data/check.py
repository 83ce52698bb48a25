"""`fdt data check`: every record is read, and all that is wrong is listed where it is met."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from fdt.cli.reading import EpisodeReader, add_file, add_lenient, as_json, to_one_line
from feedback.faults import DataError
from feedback.readers import count_placeholders
from feedback.readers.columns.mapping import list_columns
from feedback.types import Episode

COUNTED_PROMPTS = 1_000_000  # distinct prompts that are counted; beyond it memory would grow with the file
COUNTED_NOTES = 100  # columns that are named
READ_NOTES = ("tools",)  # a note that reaches the chat template

EPILOG = """\
examples:
  fdt data check mine.jsonl                        scores lie in [0, 1] already, or there are none
  fdt data check ratings.csv --scale 1 5           scores from 1 to 5
  fdt data check big.parquet --lenient --rejects refused.jsonl
                                                   keep what can be read, put the rest aside to mend it
  fdt data check mine.jsonl --json | jq .faults    for machines

A fault names file, line (rows of Parquet count from 0), column, what stood there, what was expected, and the remedy.
--json prints one object, written while the file is read: faults first, then records, loaded, refused.
Memory does not grow with the file's size, whatever number of faults it has.

exit code: 0 all records loaded (with --lenient: some), 1 a fault, 2 wrong arguments
"""


def add_to(commands: Any) -> None:
    """Adds the command to `fdt data`."""
    parser = commands.add_parser(
        "check",
        help="read every record and list all that is wrong, each with its line",
        epilog=EPILOG,
        description="Reads every record and lists all that is wrong. Exit code 1 when anything is.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser)
    add_lenient(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Checks `args.file`; returns 0 when it is sound, else 1.

    Raises:
        UserError: as `EpisodeReader`.
    """
    out = _JsonOutput() if args.json else _TextOutput()
    reading = EpisodeReader(args, out.report_fault)
    held = SignalCounts()
    for episode in reading:
        held.add(episode)
    out.close(reading, held)
    return 0 if reading.is_valid else 1


class SignalCounts:
    """What a file holds of each signal, counted in memory that does not grow with it."""

    def __init__(self) -> None:
        self.scored = 0
        self.critique = 0
        self.revision = 0
        self.reference = 0
        self.empty = 0
        self.prompts: set[int] = set()
        self.notes: dict[str, None] = {}

    def add(self, episode: Episode) -> None:
        """Counts one record."""
        scored = False
        critique = False
        revision = False
        for item in episode.feedback:
            scored = scored or not math.isnan(item.score)
            critique = critique or bool(item.text)
            revision = revision or item.revision is not None
        self.empty += count_placeholders([episode]).total()
        self.scored += scored
        self.critique += critique
        self.revision += revision
        self.reference += episode.task.reference is not None
        if len(self.notes) < COUNTED_NOTES:
            self.notes |= dict.fromkeys(name for name in episode.task.meta if name not in READ_NOTES)
        if len(self.prompts) <= COUNTED_PROMPTS:
            self.prompts.add(hash(episode.task.key))

    def format_lines(self) -> list[str]:
        """One line a signal."""
        more = len(self.prompts) > COUNTED_PROMPTS
        prompts = f"more than {COUNTED_PROMPTS}" if more else str(len(self.prompts))
        held = {
            "prompts": prompts,
            "scored": self.scored,
            "with critique": self.critique,
            "with revision": self.revision,
            "with reference": self.reference,
        }
        notes = [f"  kept as notes, not read as prompt or feedback: {list_columns(self.notes)}"] if self.notes else []
        empty = [f"  words that say nothing, such as nan: {self.empty}; leave them empty"] if self.empty else []
        return [f"  {name}: {number}" for name, number in held.items()] + empty + notes


class _TextOutput:
    def report_fault(self, fault: DataError) -> None:
        print(to_one_line(fault))

    def close(self, reading: EpisodeReader, held: SignalCounts) -> None:
        if reading.record_count:
            print(reading.format_counts())
            print("\n".join([*held.format_lines(), *reading.format_absence()]))


class _JsonOutput:
    """One object, its faults written as they are met."""

    def __init__(self) -> None:
        self.num_faults = 0

    def report_fault(self, fault: DataError) -> None:
        sys.stdout.write(('{"faults": [' if not self.num_faults else ", ") + json.dumps(as_json(fault)))
        self.num_faults += 1

    def close(self, reading: EpisodeReader, held: SignalCounts) -> None:
        start = "" if self.num_faults else '{"faults": ['
        counts = ", ".join(f'"{name}": {number}' for name, number in reading.get_counts().items())
        print(f"{start}], {counts}}}")
