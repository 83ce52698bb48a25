"""Both signals against each alone beyond the small world: SmolLM2 on generators of reasoning-gym.

python benchmarks/gym_signals.py                 # three generators, three seeds, rates as chosen here
python benchmarks/gym_signals.py --tune          # every arm at every rate of the grid, on a seed of its own

Runs that are finished are kept. Answers that met the token limit are counted: where more than one in twenty of the
base's did so, the table says more of the limit than of learning.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.bench import base  # noqa: E402
from fdt.bench.base import BASE, TUNING_SEED, Outcome, choose_best_rates  # noqa: E402
from fdt.bench.reports import report_bench  # noqa: E402
from fdt.bench.signals import ConventionsComparison  # noqa: E402
from fdt.bench.work import run_all  # noqa: E402
from fdt.statistics.nested import compute_nested_interval  # noqa: E402
from feedback.types import Episode  # noqa: E402

MIX = "dspo"
RIVALS = ("scores", "scores_moments", "critiques", "critiques_forward", "rewrites")
ARMS = (MIX, *RIVALS)
MAX_TOKENS = {"gcd": 64, "chain_sum": 40, "letter_counting": 40}
"""Of an answer: at 40, one answer of the base in five to gcd was cut off."""
SETTINGS: dict[str, dict[str, Any]] = {
    "gcd": {"dataset": "gcd", "settings": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 30}},
    "chain_sum": {
        "dataset": "chain_sum",
        "settings": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    },
    "letter_counting": {"dataset": "letter_counting", "settings": {"min_words": 3, "max_words": 5}},
}
"""The environment's arguments."""
GRID = (2.5e-4, 5e-4, 1e-3)
RATES = dict.fromkeys(ARMS, 5e-4)
"""Used without `--tune`."""


def is_right(episode: Episode) -> bool:
    """Whether the verifier gave an answer its full score."""
    return episode.score == 1.0


@dataclass(frozen=True)
class Job(base.Job):
    """One arm on one generator from one seed."""

    config = "task/gym_signals"
    is_right_path = "benchmarks.gym_signals.is_right"
    settings: ClassVar[dict[str, dict[str, Any]]] = SETTINGS

    def build_environment_args(self) -> dict[str, Any]:
        return self.settings[self.setting]

    def build_overrides(self) -> list[dict[str, Any]]:
        *arms, own = super().build_overrides()
        own["data"] |= {
            "engine": {"init_args": {"max_new_tokens": MAX_TOKENS[self.setting]}},
            "limits": {"tasks": 1024, "heldout": 128, "max_turns": 1},
            "evaluation_batch": 128,
        }
        return [*arms, own]


class Generators(ConventionsComparison):
    """Which signal teaches what to SmolLM2, on generators of reasoning-gym."""

    name = "gym_signals"
    job = Job
    arms = ARMS
    settings = SETTINGS
    grid = GRID
    rates = dict.fromkeys(SETTINGS, RATES)
    seeds = (3, 3)
    baseline = "scores"
    pairs = {"all": tuple((MIX, arm) for arm in (*RIVALS, BASE))}
    words = ConventionsComparison.words | {"level": "score", "prompts": "unseen prompts, greedy"}
    notes = {BASE: "the policy before training", "rewrites": "imitates its own accepted rewrites"}


def measure_cuts(out: Path, jobs: list[base.Job]) -> dict[str, float]:
    """For each generator, the share of the base's held-out answers that met the token limit."""
    found: dict[str, list[bool]] = {}
    for job in jobs:
        path = out / job.name / "eval" / "validate.jsonl"
        if job.arm == BASE:
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            found.setdefault(job.setting, []).extend(record["tokens"] >= MAX_TOKENS[job.setting] for record in records)
    return {setting: float(np.mean(cuts)) for setting, cuts in found.items()}


def compare_with_best(outcomes: list[Outcome]) -> list[str]:
    """One line a generator, the mix against its best single arm there, and one for the mean over generators."""
    runs: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for one in outcomes:
        job = one["job"]
        runs.setdefault((job["setting"], job["arm"]), {})[job["seed"]] = np.array(one["right"], dtype=float)
    lines, gaps = [], []
    for setting in dict.fromkeys(setting for setting, _ in runs):
        found = {arm: runs[setting, arm].values() for arm in RIVALS if (setting, arm) in runs}
        singles = {arm: np.mean([right.mean() for right in seeds]) for arm, seeds in found.items()}
        best = max(singles, key=lambda arm: singles[arm])
        pairs = [own - runs[setting, best][seed] for seed, own in sorted(runs[setting, MIX].items())]
        gap = compute_nested_interval(pairs)
        gaps.append(gap.mean)
        lines.append(f"{setting}: {MIX} - {best}: {100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]")
    return [*lines, f"mean over {len(gaps)} generators: {100 * np.mean(gaps):+.1f} points"]


def run_jobs(jobs: list[base.Job], args: argparse.Namespace) -> list[Outcome]:
    """All outcomes, with a line for each as it comes."""
    found = []
    for outcome in run_all(jobs, args.out, args.workers):
        found.append(outcome)
        name = Job(**outcome["job"]).name
        told = f"{np.mean(outcome['right']):.1%}, {outcome['seconds']:.0f} s, {len(found)} of {len(jobs)}"
        print(f"{name}: {told}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="optimiser steps of each arm (as the config says)")
    parser.add_argument("--tune", action="store_true", help="choose each arm's rate on a seed of its own")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/gym_signals"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Generators()
    rates = dict.fromkeys(args.settings, RATES)
    if args.tune:
        grid = [(setting, arm, rate) for setting in args.settings for arm in args.arms for rate in GRID]
        tuning: list[base.Job] = [Job(name, arm, TUNING_SEED, rate, args.steps) for name, arm, rate in grid]
        rates = choose_best_rates(run_jobs(tuning, args))
    jobs: list[base.Job] = []
    for seed in range(args.seeds):
        for setting in args.settings:
            first = Job(setting, BASE, seed)
            jobs += [first, *(replace(first, arm=arm, rate=rates[setting][arm], steps=args.steps) for arm in args.arms)]
    outcomes = run_jobs(jobs, args)
    report_bench(bench, outcomes, args.out)
    cuts = measure_cuts(args.out, jobs)
    told = [f"{setting}: {cut:.1%} of the base's answers met the limit" for setting, cut in cuts.items()]
    print("\n".join([*compare_with_best(outcomes), *told]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
