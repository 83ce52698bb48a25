"""`fdt data convert`: a file in any format that is read becomes one in a canonical shape, whole or not at all."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdt.cli.reading import (
    EpisodeReader,
    add_file,
    add_lenient,
    add_points,
    check_target,
    print_fault,
    replace_file,
    to_one_line,
)
from fdt.errors import UserError
from feedback.forms import argilla, labelstudio
from feedback.forms.tasks import check_points
from feedback.readers.formats.episodes import build_record
from feedback.readers.formats.rows import build_row
from feedback.types import Episode
from feedback.writers import write_rows

ENDINGS = (".jsonl", ".csv", ".parquet")
SHAPES = {"row": build_row, "episode": build_record}
Make = Callable[[Episode], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class Tool:
    """An annotation tool that tasks are written for."""

    build: Callable[[Episode, tuple[int, int]], dict[str, Any]]
    """A task of an episode, for scores of these points."""
    build_setup: Callable[[int, tuple[int, int]], str]
    """The text of the file that sets the tool up, for episodes of up to so many turns."""
    ending: str
    """Of that file."""
    hint: str
    """What to do with it."""


TOOLS = {
    "label-studio": Tool(
        labelstudio.build_task,
        labelstudio.build_config,
        ".config.xml",
        "the labelling config; paste it into the project's labelling setup, then import the tasks",
    ),
    "argilla": Tool(
        argilla.build_record,
        lambda turns, points: json.dumps(argilla.build_settings(turns, points), indent=1),
        ".settings.json",
        "the dataset's settings, for argilla.Settings.from_json",
    ),
}

EPILOG = """\
examples:
  fdt data convert ratings.csv ratings.jsonl --scale 1 5
  fdt data convert human_data_raw.jsonl shepherd.parquet --shape episode
  fdt data convert export.jsonl mine.jsonl --lenient --rejects refused.jsonl
  fdt data convert answers.jsonl tasks.json --to label-studio
  fdt data convert export.json judged.jsonl --shape episode      what came back from there

A row holds one response, an episode a whole dialogue with feedback on its turns. The ending of DST says how they are
written: .jsonl, .parquet, and for rows .csv. JSON Lines are written while SRC is read; tables need room in memory.
A fault in any record leaves DST as it was, unless --lenient says to leave such records out. DST appears when it is
complete: it is written beside its place and renamed. docs/formats.md has the fields of both shapes.

With --to each answer becomes a task for Label Studio or Argilla, with the labelling config or the dataset's settings
beside DST. A task carries its episode, so that the tool's export gives the same episode back, feedback and all, with
what people said in the tool added under their names there.

exit code: 0 written, 1 faults and nothing written, 2 wrong arguments
"""


def add_to(commands: Any) -> None:
    """Adds the command to `fdt data`."""
    parser = commands.add_parser(
        "convert",
        help="write a file in a canonical shape: JSON Lines, CSV or Parquet",
        epilog=EPILOG,
        description="Reads any known format and writes a canonical one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser, "src")
    add_target(parser)
    parser.add_argument("--shape", choices=list(SHAPES), default="row", help="what a record of DST is (default: row)")
    parser.add_argument(
        "--to",
        choices=list(TOOLS),
        help="write tasks of an annotation tool instead, and beside DST what the tool shows and asks of them",
    )
    add_points(parser, "with --to: lowest and highest score that people give there (default: 1 5)")
    add_lenient(parser)
    parser.set_defaults(run=run)


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is written."""
    parser.add_argument("dst", metavar="DST", help="the file to write, ending in .jsonl, .csv or .parquet")
    parser.add_argument("--force", action="store_true", help="replace DST where it exists")


def run(args: argparse.Namespace) -> int:
    """Converts `args.src` to `args.dst`; returns 0, or 1 where faults left DST as it was.

    Raises:
        UserError: an ending that the shape has no form for, a DST that exists or cannot be written.
    """
    if args.to is not None:
        return export_tasks(args)
    convert = SHAPES[args.shape]
    endings = [ending for ending in ENDINGS if (args.shape, ending) != ("episode", ".csv")]
    return convert_file(args, lambda episode: [convert(episode)], f"that a {args.shape} cannot hold", endings)


def export_tasks(args: argparse.Namespace) -> int:
    """Writes tasks of the tool `args.to`, and beside them the file that sets the tool up; returns as `run`.

    Raises:
        UserError: as `run`, for points that the tool has no control for, and for a setup that exists.
    """
    tool = TOOLS[args.to]
    points = (args.points[0], args.points[1])
    try:
        check_points(points)
    except ValueError as error:
        raise UserError(str(error), key="--points") from None
    setup = Path(args.dst).with_suffix(tool.ending)
    check_target(setup, args.force, "DST")
    most = 0

    def make(episode: Episode) -> list[dict[str, Any]]:
        nonlocal most
        if not episode.policy_turns:
            raise ValueError(f"id {episode.id}: no answer to judge")
        most = max(most, len(episode.policy_turns))
        return [tool.build(episode, points)]

    code = convert_file(args, make, "without an answer", (".json", ".jsonl") if args.to == "argilla" else (".json",))
    if code == 0:
        with replace_file(setup) as part:
            part.write_text(tool.build_setup(most, points), encoding="utf-8")
        print(f"{setup}: {tool.hint}")
    return code


def convert_file(args: argparse.Namespace, make: Make, unfit: str, endings: Iterable[str] = ENDINGS) -> int:
    """Writes what `make` gives for each episode of `args.src` to `args.dst`, as `run` does.

    Args:
        args: the parsed arguments of `add_file`, `add_target` and `add_lenient`.
        make: records of an episode; a ValueError where it has none, with the reason.
        unfit: what is said of the number of such episodes.
        endings: that `args.dst` may have.
    """
    target = Path(args.dst)
    if target.suffix.lower() not in (known := list(endings)):
        raise UserError("unknown ending", got=target.name, expected="one of " + ", ".join(known), key="DST")
    check_target(target, args.force, "DST")
    conversion = Conversion(EpisodeReader(args, print_fault, args.src), make, unfit)
    with replace_file(target) as part:
        try:
            write_rows(part, conversion)
        except ValueError as error:  # a further column holds what JSON cannot, such as NaN
            raise UserError("cannot be written", got=str(error), path=args.dst) from None
        if not conversion.is_valid:
            part.unlink(missing_ok=True)
    print(conversion.format_counts(args.dst))
    return 0 if conversion.is_valid else 1


class Conversion:
    """The records to write; episodes that give none are reported and counted."""

    def __init__(self, reading: EpisodeReader, make: Make, unfit: str):
        self.reading = reading
        self.make = make
        self.unfit = unfit
        self.num_unfit = 0
        self.num_made = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for episode in self.reading:
            try:
                records = list(self.make(episode))
            except ValueError as error:
                self._report_unfit(episode, error)
            else:
                self.num_made += len(records)
                yield from records

    @property
    def is_valid(self) -> bool:
        """Whether what was written may take its place."""
        return self.reading.is_valid and (
            self.num_unfit == 0 or (self.reading.lenient and self.num_unfit < self.reading.loaded_count)
        )

    def format_counts(self, target: str) -> str:
        """The counts in words."""
        kept = self.reading.loaded_count - self.num_unfit
        parts = f"{self.reading.refused_count} refused" + (
            f" + {self.num_unfit} {self.unfit}" if self.num_unfit else ""
        )
        did = "written" if self.is_valid else "readable"
        did += f" as {self.num_made}" if self.num_made != kept else ""
        line = f"{self.reading.path} to {target}: {self.reading.record_count} records = {kept} {did} + {parts}"
        return to_one_line(line if self.is_valid else f"{line}; nothing was written")

    def _report_unfit(self, episode: Episode, error: ValueError) -> None:
        self.num_unfit += 1
        print(to_one_line(f"{self.reading.path}: {error}"), file=sys.stderr)
