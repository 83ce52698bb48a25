"""What commands read and write: one pass over a feedback file with its counts; files written whole or not at all."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from fdt.cli.progress import track_progress
from fdt.errors import UserError
from fdt.report.sanitize import make_legible
from feedback.faults import DataError
from feedback.readers import FORMATS, Reader, find_reader, stream
from feedback.readers.columns.mapping import Columns, check_map
from feedback.readers.columns.unread import list_kinds
from feedback.readers.streaming import Stream
from feedback.types import Episode

Report = Callable[[DataError], None]
MAP = "--map"


def add_file(parser: argparse.ArgumentParser, name: str = "file") -> None:
    """The arguments that say which file is read, and how."""
    parser.add_argument(name, metavar=name.upper(), help="JSON Lines, CSV or Parquet")
    parser.add_argument(
        "--scale",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="lowest and highest possible `score`; scores become numbers from 0 to 1",
    )
    parser.add_argument(
        "--format",
        default="auto",
        metavar="NAME",
        help=f"{', '.join(FORMATS)}, or the dotted path of a reader of your own, as in my_module.MyReader "
        "(default: auto, by the columns of the first record)",
    )
    parser.add_argument(
        MAP,
        nargs="+",
        type=_split_pair,
        action="extend",
        metavar="FIELD=COLUMN",
        help='columns under other names, as in prompt=Question response=Answer revision="Better answer"; '
        "meta.NAME=COLUMN keeps a column as a note",
    )


def _split_pair(text: str) -> tuple[str, str]:
    field, sign, column = text.partition("=")
    if not sign or not field or not column:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected FIELD=COLUMN (name the file before {MAP})")
    return field, column


def read_map(pairs: list[tuple[str, str]] | None) -> dict[str, str]:
    """The columns that `--map` names, each by its field.

    Raises:
        UserError: a field that there is not, or twice.
    """
    columns = dict(pairs or [])
    twice = [field for field, _ in pairs or [] if [name for name, _ in pairs or []].count(field) > 1]
    if twice:
        raise UserError("twice", got=twice[0], expected="one column for each field", key=MAP)
    try:
        check_map(columns)
    except DataError as fault:
        raise UserError(f"got {fault.got}, expected {fault.expected}", remedy=fault.remedy, key=MAP) from None
    return columns


def replace_map(argv: list[str]) -> list[str]:
    """The arguments of Lightning's verbs with `--map FIELD=COLUMN …` as the setting `data.map`.

    Raises:
        UserError: as `read_map`, and for what is no pair.
    """
    start = next((place for place, word in enumerate(argv) if word.partition("=")[0] == MAP), None)
    if start is None:
        return argv
    end = next((n for n in range(start + 1, len(argv)) if argv[n].startswith("-")), len(argv))
    parser = argparse.ArgumentParser(prog="fdt", allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument(MAP, nargs="+", type=_split_pair, action="extend")
    try:
        columns = read_map(parser.parse_args(argv[start:end]).map)
    except argparse.ArgumentError as error:
        raise UserError(str(error), key=MAP) from None
    return replace_map([*argv[:start], f"--data.map={json.dumps(columns)}", *argv[end:]])


def add_points(parser: argparse.ArgumentParser, help: str) -> None:
    """The argument that says on which scale people score."""
    parser.add_argument("--points", nargs=2, type=int, default=(1, 5), metavar=("LO", "HI"), help=help)


def add_lenient(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what becomes of records that cannot be read."""
    parser.add_argument("--lenient", action="store_true", help="go on as long as some records can be kept")
    parser.add_argument(
        "--rejects",
        metavar="OUT",
        help="with --lenient: write the refused records and their reasons here, as JSON Lines",
    )


class EpisodeReader:
    """An iterator over the episodes of a file that holds none of them; a record may have several.

    After it, `loaded_count` + `refused_count` = `record_count`. `broken` is the fault that ended it early, None where
    the file was read to its end.
    """

    def __init__(self, args: argparse.Namespace, report: Report, path: str | None = None):
        """
        Args:
            args: the parsed `add_file` arguments, and those of `add_lenient` where the command has them.
            report: called with every fault as it is met, several for one record.
            path: the file, where it is not `args.file`.

        Raises:
            UserError: no such format, or `--rejects` without `--lenient`, or onto the file that is read.
        """
        self.path = path or args.file
        self.format = _find_format(args.format)
        self.scale = (args.scale[0], args.scale[1]) if args.scale else None
        self.columns: Columns = read_map(args.map)
        self.report = report
        self.lenient = getattr(args, "lenient", False)
        self.rejects = getattr(args, "rejects", None)
        self.broken: DataError | None = None
        self.has_feedback = False
        self._causes: Counter[str] = Counter()
        self._items: Stream | None = None
        if self.rejects and not self.lenient:
            raise UserError("no --lenient", expected="both", remedy="Add --lenient.", key="--rejects")
        if self.rejects and _is_same_file(self.rejects, self.path):
            raise UserError("the file that is read", got=self.rejects, expected="another file", key="--rejects")

    @property
    def record_count(self) -> int:
        """Records met so far."""
        return self._items.num_records if self._items else 0

    @property
    def refused_count(self) -> int:
        """Those of them that could not be read."""
        return self._items.num_rejected if self._items else 0

    @property
    def loaded_count(self) -> int:
        """Those of them that could."""
        return self.record_count - self.refused_count

    @property
    def is_valid(self) -> bool:
        """Whether all was read, or with `--lenient` a part of it."""
        return self.broken is None and (self.refused_count == 0 or (self.lenient and self.loaded_count > 0))

    def get_counts(self) -> dict[str, int]:
        """Records, loaded and refused."""
        return {"records": self.record_count, "loaded": self.loaded_count, "refused": self.refused_count}

    def format_counts(self) -> str:
        """The counts in words."""
        stopped = " (not read to its end)" if self.broken else ""
        counts = f"{self.record_count} records = {self.loaded_count} loaded + {self.refused_count} refused"
        more = [f"{count - 1} more: {cause}" for cause, count in self._causes.items() if count > 1]
        untold = f" (told once; {'; '.join(more)})" if more else ""
        return to_one_line(f"{self.path}: {counts}{stopped}{untold}")

    def format_absence(self) -> list[str]:
        """A line where no record that was read holds any feedback; none where one does."""
        if self.has_feedback or not self.loaded_count:
            return []
        return [
            "  no feedback in any record: no score, critique, revision or comparison (on-policy training needs none)"
        ]

    def __iter__(self) -> Iterator[Episode]:
        with ExitStack() as files:
            out = files.enter_context(_open_rejects(self.rejects)) if self.rejects else None
            try:
                self._items = stream(self.path, self.format, self.scale, self.columns)
                for item in track_progress(self._items, self.path):
                    if isinstance(item, DataError):
                        self._refuse(item, out)
                    else:
                        self.has_feedback = self.has_feedback or bool(list_kinds([item]))
                        yield item
            except DataError as fault:
                self.broken = fault
                self.report(fault)

    def _refuse(self, fault: DataError, out: IO[str] | None) -> None:
        faults = (fault, *fault.others)
        if out is not None:
            reasons = [as_json(each) for each in faults]
            out.write(json.dumps({"faults": reasons} | _encode_raw(fault.raw), ensure_ascii=False) + "\n")
        for each in faults:
            if each.cause is None or not self._causes[each.cause]:
                self.report(each)
            if each.cause is not None:
                self._causes[each.cause] += 1


def _find_format(name: str) -> str | Reader:
    try:
        return name if name == "auto" else find_reader(name)
    except DataError as fault:
        raise UserError(f"got {fault.got}, expected {fault.expected}", remedy=fault.remedy, key="--format") from None


def as_json(fault: DataError) -> dict[str, Any]:
    """A fault for machines: file, line (from 1) or row (from 0) where it has one, the item (from 1) where it is not the
    line's first, column, reason."""
    place: dict[str, Any] = {} if fault.line is None else {fault.unit: fault.line}
    place |= {"item": fault.item + 1} if fault.item else {}
    return {"file": fault.file} | place | {"column": fault.field, "reason": fault.reason}


def print_fault(fault: DataError) -> None:
    """A fault on stderr, on one line."""
    print(to_one_line(fault), file=sys.stderr)


def check_target(target: Path, force: bool, key: str) -> None:
    """
    Raises:
        UserError: where a command may not write the file, or cannot.
    """
    if target.exists() and not force:
        raise UserError("exists", got=str(target), remedy="Add --force to replace it.", key=key)
    if not target.parent.is_dir():
        raise UserError("no such folder", got=str(target.parent), key=key)


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """A path beside the file to write to: it takes the file's place at the end, whole or, after an error, not at all.

    Its ending is the file's, since endings say how a file is written. Where nothing was written, nothing is replaced.

    Raises:
        UserError: where it cannot be written.
    """
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        if part.exists():
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
    except OSError as error:
        raise UserError("cannot be written", got=error.strerror or str(error), path=target) from None
    finally:
        part.unlink(missing_ok=True)


def to_one_line(text: object) -> str:
    """Text that no terminal obeys, on one line."""
    return make_legible(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def _is_same_file(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _open_rejects(path: str) -> IO[str]:
    try:
        return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
    except OSError as error:
        raise UserError("cannot be written", got=error.strerror, path=path, key="--rejects") from None


def _encode_raw(raw: bytes) -> dict[str, str]:
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(raw).decode()}
