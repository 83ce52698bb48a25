"""`fdt grams`: the strategic grams of a file of solutions, which `fdt.data.markers.StrategicGrams` finds in answers."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdt.cli.reading import EpisodeReader, add_file, print_fault, replace_file
from fdt.errors import UserError
from fdt.options import Parser
from feedback.grams.mining import Cluster, StrategicGram, cluster_singly, mine_grams
from feedback.types import Episode

EPILOG = """\
examples:
  fdt grams solutions.jsonl --out grams.json
  fdt grams solutions.jsonl --out grams.json --embedder all-minilm-l6-v2 --clusters 100
  fdt fit -c mine.yaml -c algorithm/hicra --data.marker StrategicGrams --data.marker.file grams.json

A gram is 3 to 5 words of one sentence. Candidates stand in at least --min-solutions solutions. With --embedder they are
embedded (mean of the last hidden states) and clustered (k-means); without it each is a cluster of its own, which needs
no model and merges no paraphrases. Those of the clusters that most solutions share (the share --top-share) are written.
Solutions are the answers whose score is at least --min-score; equal ones count once, and wrong ones add nothing.

exit code: 0 written, 1 faults in the file and nothing written, 2 wrong arguments
"""


def main(argv: list[str]) -> int:
    """Mines `FILE` and writes `--out`; returns the exit code.

    Raises:
        UserError: no correct solution, no candidate, or a folder without an embedding model.
    """
    args = _build_parser().parse_args(argv)
    _check(args)
    reading = EpisodeReader(args, print_fault)
    texts = [text for episode in reading if (text := extract_solution(episode, args.min_score))]
    if not reading.is_valid:
        return 1
    if not texts:
        raise UserError(
            "no correct solutions",
            got=reading.format_counts(),
            key="--min-score",
            path=args.file,
            expected=f"answers that score at least {args.min_score}",
        )
    lengths = tuple(range(args.words[0], args.words[1] + 1))
    mined = mine_grams(texts, lengths, args.top_share, args.min_solutions, build_clusterer(args))
    if not mined:
        raise UserError(
            "no grams",
            got=f"{len(texts)} solutions",
            expected=f"phrases that {args.min_solutions} of them share",
            remedy="Lower --min-solutions, or give more solutions.",
            path=args.file,
        )
    write(Path(args.out), args, len(set(texts)), mined)
    print(
        f"{args.out}: {len(mined)} grams of {len({item.cluster for item in mined})} clusters, "
        f"from {len(set(texts))} distinct correct solutions"
    )
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fdt grams",
        description="Mine the phrases that correct solutions share (HICRA, arXiv 2509.03646).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_file(parser)
    parser.add_argument("--out", required=True, help="the JSON file to write")
    parser.add_argument("--min-score", type=float, default=0.5, help="least score of a correct solution (default: 0.5)")
    parser.add_argument(
        "--words", nargs=2, type=int, default=(3, 5), metavar=("LEAST", "MOST"), help="words of a gram (default: 3 5)"
    )
    parser.add_argument(
        "--top-share", type=float, default=0.2, help="share of the clusters that is kept (default: 0.2)"
    )
    parser.add_argument(
        "--min-solutions", type=int, default=2, help="fewest solutions that hold a candidate (default: 2)"
    )
    parser.add_argument(
        "--embedder", metavar="MODEL", help="a sentence-embedding model: all-minilm-l6-v2, a folder or a hub id"
    )
    parser.add_argument("--clusters", type=int, help="with --embedder (default: a tenth of the candidates)")
    parser.add_argument("--seed", type=int, default=0, help="of the clustering (default: 0)")
    return parser


def _check(args: argparse.Namespace) -> None:
    if not (0 < args.top_share <= 1 and 1 <= args.words[0] <= args.words[1]):
        raise UserError(
            "cannot mine",
            got=f"--top-share {args.top_share} --words {args.words[0]} {args.words[1]}",
            expected="a share above 0, at most 1, and fewest words before most words",
        )
    for name in ("min_solutions", "clusters"):
        if (given := getattr(args, name)) is not None and given < 1:
            raise UserError("too few", got=given, expected="at least 1", key=f"--{name.replace('_', '-')}")


def extract_solution(episode: Episode, min_score: float) -> str:
    """The policy's turns of an episode that is right; nothing where it is wrong or unscored."""
    if math.isnan(episode.score) or episode.score < min_score:
        return ""
    return "\n".join(turn.text for turn in episode.policy_turns)


def build_clusterer(args: argparse.Namespace) -> Cluster:
    """How candidates are put together."""
    if args.embedder is None:
        if args.clusters is not None:
            raise UserError("nothing to cluster by", got=args.clusters, key="--clusters", remedy="Add --embedder.")
        return cluster_singly

    def cluster(grams: list[str]) -> list[int]:
        from fdt.cli.clusters import choose_cluster_count, kmeans  # numpy and torch
        from fdt.embeddings import SentenceModel

        with show_progress(len(grams)) as watch:
            points = SentenceModel(args.embedder)(grams, watch)
        return kmeans(points, args.clusters or choose_cluster_count(len(grams)), args.seed)

    return cluster


@contextmanager
def show_progress(total: int) -> Iterator[Any]:
    """A bar of embedded phrases, on a terminal alone; gives a function to call with the number that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as drawn:
        task = drawn.add_task("", total=total)
        yield lambda done: drawn.update(task, completed=done)


def write(target: Path, args: argparse.Namespace, solutions: int, mined: list[StrategicGram]) -> None:
    """The grams and how they were found, whole or not at all."""
    content = {
        "solutions": solutions,
        "words": list(args.words),
        "share": args.top_share,
        "rare": args.min_solutions,
        "embedder": args.embedder and Path(args.embedder).name,
        "clusters": args.clusters,
        "seed": args.seed,
        "grams": [
            {"gram": item.gram, "cluster": item.cluster, "frequency": item.frequency, "solutions": item.solutions}
            for item in mined
        ],
    }
    with replace_file(target) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
