"""`fdt data`: look into a feedback file before training on it. Imports neither torch nor lightning nor datasets."""

from __future__ import annotations

import argparse
import base64
import json
import math
import sys
from pathlib import Path
from typing import Any

from feedback.faults import DataFault
from feedback.readers import FORMATS, read_with_report
from feedback.types import Episode, tasks_of


def main(argv: list[str]) -> int:
    """Runs `check` on a file; returns 0 when it is sound (or `--lenient` could keep a part of it), else 1."""
    asked = _parser().parse_args(argv)
    if asked.rejects and not asked.lenient:
        print("fdt data check: --rejects: got no --lenient, expected both. Add --lenient.", file=sys.stderr)
        return 2
    try:
        scale = tuple(asked.scale) if asked.scale else None
        episodes, refused = read_with_report(asked.file, asked.format, scale, lenient=True)
        whole = []
    except DataFault as fault:
        episodes, refused, whole = [], [], [fault]
    faults = whole + [each for fault in refused for each in (fault, *fault.others)]
    if asked.rejects:
        write_rejects(asked.rejects, refused)
    counts = {"records": len(episodes) + len(refused), "loaded": len(episodes), "refused": len(refused)}
    if asked.json:
        print(json.dumps(counts | {"faults": [as_json(fault) for fault in faults]}))
    else:
        for fault in faults:
            print(fault)
        if not whole:
            print(summary(asked.file, counts, episodes))
    return 1 if whole or (faults and not (asked.lenient and episodes)) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fdt data", description="Look into a feedback file before training on it.")
    check = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check", help="read every record and list all that is wrong, each with its line",
        description="Reads every record and lists all that is wrong. Exit code 1 when anything is.")
    check.add_argument("file", help="JSON Lines, CSV or Parquet")
    check.add_argument("--scale", nargs=2, type=float, metavar=("LO", "HI"), help="lowest and highest mark of `score`")
    check.add_argument("--format", choices=FORMATS, default="auto", help="default: look at the file")
    check.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    check.add_argument("--lenient", action="store_true", help="exit code 0 as long as some records can be kept")
    check.add_argument("--rejects", metavar="OUT", help="with --lenient: write the refused records here, as JSON Lines")
    return parser


def as_json(fault: DataFault) -> dict[str, Any]:
    """A fault for machines: file, line (from 1) or row (from 0) where it has one, column, reason."""
    place = {} if fault.line is None else {fault.unit: fault.line}
    return {"file": fault.file} | place | {"column": fault.field, "reason": fault.reason}


def write_rejects(path: str | Path, refused: list[DataFault]) -> None:
    """Writes each refused record with its reasons and its bytes: `raw` as text, or `raw_base64` where it is none.

    Raises `DataFault` when the file cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            for fault in refused:
                reasons = [as_json(each) for each in (fault, *fault.others)]
                stream.write(json.dumps({"faults": reasons} | _raw(fault.raw), ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataFault(str(path), None, "rejects", str(error), "a file that can be written") from None


def _raw(raw: bytes) -> dict[str, str]:
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(raw).decode()}


def summary(file: str, counts: dict[str, int], episodes: list[Episode]) -> str:
    """What a reader of the terminal wants to know: how many records, prompts, scores, critiques and revisions."""
    held = {
        "prompts": len(tasks_of(episodes)),
        "scored": sum(not math.isnan(episode.score) for episode in episodes),
        "with critique": sum(episode.critique is not None for episode in episodes),
        "with revision": sum(episode.revision is not None for episode in episodes),
        "with reference": sum(episode.task.reference is not None for episode in episodes),
    }
    lines = [f"{file}: {counts['records']} records = {counts['loaded']} loaded + {counts['refused']} refused"]
    return "\n".join(lines + [f"  {name}: {number}" for name, number in held.items()])
