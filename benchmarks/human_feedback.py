"""What ratings, critiques and corrections by people teach, over seeds: likelihood of the corrections, and preference.

    python benchmarks/human_feedback.py --file PATH/human_data_raw.jsonl --seeds 3

Each seed holds out questions of its own. The likelihood of held-out corrections is what plain supervision trains; how
often, and by what margin, a correction is likelier per token than the faulty answer that it corrects is not. Finished
arms are kept. Intervals (95 %) resample seeds, then questions; changes are paired by question with the base.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.bench.work import read_heldout  # noqa: E402
from fdt.report.table import format_interval  # noqa: E402
from fdt.statistics.intervals import RESAMPLES, SEED, Interval  # noqa: E402
from fdt.statistics.nested import compute_draws_interval, compute_nested_interval  # noqa: E402
from fdt.statistics.preference import compute_margin  # noqa: E402

MIX = "dspo"
ARMS = ("revisions", "critiques", "scores", "scores_and_critiques", "all_three", "shuffled_critiques", MIX)
DEFAULT = ("revisions", "critiques", "all_three", MIX)
Records = list[dict[str, Any]]


def train(folder: Path, file: Path, arms: Sequence[str], seed: int, more: Sequence[str]) -> None:
    """The arms of one seed in one command, which measures their base once, and the mix in another; finished ones are
    kept."""
    missing = [arm for arm in arms if not (folder / arm / "eval" / "last.jsonl").exists()]
    plain = [arm for arm in missing if arm != MIX]
    settings = [f"--data.file={file}", f"--data.seed={seed}", f"--model.seed={seed}", *more]
    if plain:
        run_fit(folder, [f"--arms=[{', '.join(plain)}]", *settings])
    if MIX in missing:
        # The mix brings a source of fresh answers; here the rows of the file are all there is.
        replay = ["--data.source=Replay", "--data.source.init_args.rows_per_step=16"]
        run_fit(folder / MIX, ["-c", "algorithm/dspo", "--arms=null", *replay, *settings])


def run_fit(folder: Path, settings: Sequence[str]) -> None:
    """One `fdt fit` of `task/shepherd`; stops where it fails."""
    command = ["fit", "-c", "task/shepherd", *settings, f"--trainer.default_root_dir={folder}"]
    subprocess.run([sys.executable, "-m", "fdt", *command], check=True)


def read_records(folder: Path, name: str) -> Records:
    """The held-out questions of a measurement that have a faulty answer beside the correction."""
    return [record for record in read_heldout(folder, name) if "rejected_tokens" in record]


def compute_nll(seeds: Sequence[Records]) -> Interval:
    """Nats per token of the corrections: sums over questions, so that long ones count for more."""
    rng = np.random.default_rng(SEED)
    values, draws = [], []
    for records in seeds:
        sums = np.array([[record["nll_sum"], record["tokens"]] for record in records])
        total = sums.sum(0)
        drawn = sums[rng.integers(0, len(sums), (RESAMPLES, len(sums)))].sum(1)
        values.append(total[0] / total[1])
        draws.append(drawn[:, 0] / drawn[:, 1])
    return compute_draws_interval(values, draws)


def compute_paired(seeds: Sequence[tuple[Records, Records]], measure: Callable[[dict[str, Any]], float]) -> Interval:
    """The mean of a measure over questions, less that of the same questions in the other run."""
    pairs = [[(measure(own), measure(other)) for own, other in zip(*pair, strict=True)] for pair in seeds]
    return compute_nested_interval([[own - other for own, other in found] for found in pairs])


def build_row(arm: str, own: Sequence[Records], base: Sequence[Records]) -> str:
    """One line of the table."""
    pairs = list(zip(own, base, strict=True))
    won = compute_nested_interval([[compute_margin(record) > 0 for record in records] for records in own])
    margin = compute_nested_interval([[compute_margin(record) for record in records] for records in own])
    cells = [
        arm,
        format_interval(compute_nll(own), 1, ".3f"),
        format_interval(won, 100, ".1f"),
        format_interval(compute_paired(pairs, lambda record: 100.0 * (compute_margin(record) > 0)), 1, "+.1f"),
        format_interval(margin, 1, ".3f"),
        format_interval(compute_paired(pairs, compute_margin), 1, "+.3f"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True, help="human_data_raw.jsonl of Shepherd (CC BY-NC 4.0)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=DEFAULT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "human_feedback")
    args, more = parser.parse_known_args()
    folders = [args.out.resolve() / f"seed-{seed}" for seed in range(args.seeds)]
    for seed, folder in enumerate(folders):
        train(folder, args.file.resolve(), args.arms, seed, more)
    base = [read_records(folder / args.arms[0], "base") for folder in folders]
    print("| arm | NLL | correction preferred, % | change, points | margin, nats a token | change |")
    print("|---|--:|--:|--:|--:|--:|")
    print(build_row("base", base, base))
    for arm in args.arms:
        print(build_row(arm, [read_records(folder / arm, "last") for folder in folders], base))
    return 0


if __name__ == "__main__":
    sys.exit(main())
