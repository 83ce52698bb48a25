"""`fdt data stats`: what the ratings and the texts of a file look like, before anything is trained on them."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdt.cli.reading import EpisodeReader, add_file, to_one_line
from fdt.errors import UserError

if TYPE_CHECKING:
    from fdt.cli.data.tally import Tally

SHOWN = 8  # annotators whose ratings are drawn in the terminal; --json and --picture have more
WIDTH = (60, 100)  # narrowest and widest text, in columns

EPILOG = """\
examples:
  fdt data stats mine.jsonl
  fdt data stats ratings.csv --scale 1 5 --picture ratings.png
  fdt data stats ratings.csv --scale 1 5 --json | jq .agreement

What to look for:
  ratings      all at one end, or all of one annotator at one end: a group baseline sees little difference
  tasks        "with scores that differ" is what a baseline over the group of one prompt learns from;
               with one response each, choose a baseline over the file (objectives.DatasetMean)
  agreement    Krippendorff's alpha, distance squared: 1 all equal, 0 as by chance; near 0 the ratings are noise
  lengths      in characters; a critique of a few characters teaches little

Memory: some forty bytes a record, no text is kept. Records that cannot be read are counted and left out;
`fdt data check` lists them.
"""


def add_to(commands: Any) -> None:
    """Adds the command to `fdt data`."""
    parser = commands.add_parser(
        "stats",
        help="ratings per annotator, lengths, repetitions, agreement, sources",
        epilog=EPILOG,
        description="Counts what a feedback file holds: how ratings spread, how long texts are, who agrees with whom.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--picture", metavar="OUT.png", help="draw ratings, lengths and sources as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Counts `args.file`; returns 0, or 1 where nothing could be read.

    Raises:
        UserError: a picture that cannot be written.
    """
    from fdt.cli.data.tally import Tally

    faults: list[str] = []
    reading = EpisodeReader(args, lambda fault: faults.append(to_one_line(fault)) if not faults else None)
    tally = Tally()
    for episode in reading:
        tally.add(episode)
    found = reading.get_counts() | summarise(tally)
    if args.json:
        print(json.dumps({"file": args.file} | found, allow_nan=False))
    else:
        print(reading.format_counts())
        if faults:
            print(f"  first fault: {faults[0]}")
        print("\n".join([*reading.format_absence(), *format_summary(found)]))
    if args.picture and tally.tasks:
        _draw_picture(tally, args.file, args.picture)
    return 0 if reading.loaded_count and not reading.broken else 1


def summarise(tally: Tally) -> dict[str, Any]:
    """All counts as plain values: what `--json` prints beside the number of records."""
    scores = [
        {
            "name": name,
            "annotator": annotator,
            "scale": None if scale is None else list(scale),
            "count": found.count,
            "mean": round(found.mean, 6),
            "ratings": [{"rating": label, "count": count} for label, count in found.compute_bars()],
        }
        for (name, annotator, scale), found in sorted(tally.scores.items(), key=lambda pair: -pair[1].count)
    ]
    agreed = []
    for name, ratings in tally.ratings.items():
        if (found := ratings.compute_agreement()) is not None:
            agreed.append({"name": name} | {key: _round_finite(value) for key, value in vars(found).items()})
    total = tally.sources.total()
    return {
        "scores": scores,
        "agreement": agreed,
        "tasks": tally.count_groups(),
        "repeated": tally.count_repeated(),
        "preferences": dict(tally.compared),
        "lengths": {name: lengths.summarise() for name, lengths in tally.lengths.items()},
        "sources": {name: {"count": n, "share": round(n / total, 6)} for name, n in tally.sources.most_common()},
    }


def format_summary(found: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    width = min(max(shutil.get_terminal_size().columns, WIDTH[0]), WIDTH[1])
    lines = []
    for judge in found["scores"][:SHOWN]:
        lines += ["", *_format_scores(judge, width)]
    if left := len(found["scores"]) - SHOWN:
        lines += ["", f"  and {left} more annotators: see --json"] if left > 0 else []
    for judged in found["agreement"]:
        alpha = "undefined, all scores are equal" if judged["alpha"] is None else f"{judged['alpha']:.3f}"
        lines += [
            "",
            f"agreement on {to_one_line(judged['name'])}: {judged['responses']} responses, {judged['scores']} "
            f"scores by {judged['annotators']} annotators",
            f"  equal {judged['percent']:.1f} % of pairs   Krippendorff's alpha (interval) {alpha}",
        ]
    lines += [
        "",
        "lengths, characters   " + "".join(f"{name:>9}" for name in ("count", "mean", "median", "p90", "longest")),
    ]
    for name, length in found["lengths"].items():
        cells = [f"{length.get(key, ''):>9}" for key in ("count", "mean", "median", "p90", "longest")]
        lines.append(f"  {name:<20}" + "".join(cells))
    for title in ("tasks", "repeated", "preferences"):
        counts = found[title]
        lines += ["", title, *(f"  {name:<40}{count:>9}" for name, count in counts.items())] if counts else []
    lines += ["", "feedback by source"]
    return lines + [
        f"  {to_one_line(name):<40}{part['count']:>9}  {100 * part['share']:5.1f} %"
        for name, part in found["sources"].items()
    ]


def _format_scores(judge: dict[str, Any], width: int) -> list[str]:
    from fdt.cli.data.histogram import render_bar

    scale = "from 0 to 1" if judge["scale"] is None else "on {:g} to {:g}".format(*judge["scale"])
    who = "nobody named" if judge["annotator"] is None else to_one_line(judge["annotator"])
    lines = [f"{to_one_line(judge['name'])} by {who}, {scale}: {judge['count']} scores, mean {judge['mean']:.3g}"]
    labels = max((len(bar["rating"]) for bar in judge["ratings"]), default=0)
    most = max((bar["count"] for bar in judge["ratings"]), default=1)
    room = width - labels - 22
    for bar in judge["ratings"]:
        share = 100 * bar["count"] / judge["count"]
        drawn = render_bar(bar["count"], most, room)
        lines.append(f"  {bar['rating']:>{labels}} {drawn:<{room}} {bar['count']:>9} {share:5.1f} %")
    return lines


def _round_finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _draw_picture(tally: Tally, file: str, out: str) -> None:
    from fdt.cli.data.picture import draw_picture

    try:
        draw_picture(tally, to_one_line(Path(file).name), out)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no picture format
        raise UserError("cannot be drawn", got=str(error), expected="a path ending in .png", key="--picture") from None
