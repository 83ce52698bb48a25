"""Both signals against each alone beyond the small world: SmolLM2 on generators of reasoning-gym.

python benchmarks/gym_signals.py                 # three generators, three seeds, rates as chosen here
python benchmarks/gym_signals.py --tune          # every arm at every rate of the grid, on a seed of its own
python benchmarks/gym_signals.py --settings sums_retry    # a second attempt after the verifier's words

Where there is a second attempt, right is who needed none: the critique states the answer, and whoever reads it can
repeat it. How many are right in the end is told beside. Runs that are finished are kept. Answers that met the token
limit are counted: where more than one in twenty of the base's did so, the table tells more of the limit than of
learning. So are different answers, and who is right by the commonest answer alone: a policy may learn that one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.bench import base, work  # noqa: E402
from fdt.bench.base import BASE, TUNING_SEED, Outcome, choose_best_rates  # noqa: E402
from fdt.bench.reports import report_bench  # noqa: E402
from fdt.bench.signals import ConventionsComparison  # noqa: E402
from fdt.report.measures import compute_sameness  # noqa: E402
from fdt.resources import resolve  # noqa: E402
from fdt.statistics.nested import compute_nested_interval  # noqa: E402
from feedback.types import Episode  # noqa: E402

MIX = "dspo"
RIVALS = ("scores", "scores_moments", "critiques", "critiques_forward", "rewrites")
ARMS = (MIX, *RIVALS)
BRIEF = "Reply in one short sentence that states the answer."
"""Without it SmolLM2 explains itself, and meets the limit of tokens."""
SETTINGS: dict[str, dict[str, Any]] = {
    "sums": {
        "dataset": "chain_sum",
        "settings": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        "instruction": "Answer with the number alone.",
    },
    "arithmetic": {
        "dataset": "basic_arithmetic",
        "settings": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2, "allow_parentheses": False},
        "instruction": BRIEF,
    },
    "lcm": {
        "dataset": "lcm",
        "settings": {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 30},
        "instruction": BRIEF,
    },
}
"""The environment's arguments. The base is right in 12 to 18 %, and no answer is right for one prompt in ten."""
CONSTANTS: dict[str, dict[str, Any]] = {
    "gcd": {"dataset": "gcd", "settings": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 30}},
    "chain_sum": {
        "dataset": "chain_sum",
        "settings": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    },
    "letter_counting": {"dataset": "letter_counting", "settings": {"min_words": 3, "max_words": 5}},
}
"""Settings that come when they are named: half of the answers to gcd, and two thirds of those to letter_counting, are
1, and that is what is learned."""
RETRIES = {"sums_retry": SETTINGS["sums"]}
"""Settings with a second attempt, which come when they are named."""
ALL = SETTINGS | CONSTANTS | RETRIES
MAX_TOKENS = dict.fromkeys(ALL, 40) | {"gcd": 64}
"""Of an answer: at 40, one answer of the base in five to gcd was cut off."""
GRID = (2.5e-4, 5e-4, 1e-3)
RATES = dict.fromkeys(ARMS, 5e-4)
"""Used without `--tune`."""


def is_right(episode: Episode) -> bool:
    """Whether the verifier gave the first attempt its full score: a second one means that it did not."""
    return episode.score == 1.0 and len(episode.policy_turns) == 1


@dataclass(frozen=True)
class Job(base.Job):
    """One arm on one generator from one seed."""

    config = "task/gym_signals"
    is_right_path = "benchmarks.gym_signals.is_right"
    settings: ClassVar[dict[str, dict[str, Any]]] = ALL

    def build_environment_args(self) -> dict[str, Any]:
        return self.settings[self.setting]

    def build_overrides(self) -> list[dict[str, Any]]:
        *arms, own = super().build_overrides()
        own["data"] |= {
            "engine": {"init_args": {"max_new_tokens": MAX_TOKENS[self.setting]}},
            "limits": {"tasks": 1024, "heldout": 128, "max_turns": 1 + (self.setting in RETRIES)},
            "evaluation_batch": 128,
        }
        if self.setting in RETRIES:
            shipped = yaml.safe_load(resolve(self.config).read_text(encoding="utf-8"))["data"]
            tasks = {"class_path": shipped["environment"]["class_path"], **own["data"]["environment"]}
            retry = {"grader": shipped["grader"], "max_attempts": 2, "task_source": tasks}
            path = "fdt.environments.retry.RetryWithCritique"
            own["data"] |= {"grader": None, "environment": {"class_path": path, "init_args": retry}}
        return [*arms, own]


class Generators(ConventionsComparison):
    """Which signal teaches what to SmolLM2, on generators of reasoning-gym."""

    name = "gym_signals"
    job = Job
    arms = ARMS
    settings = ALL
    grid = GRID
    rates = dict.fromkeys(ALL, RATES)
    seeds = (3, 3)
    baseline = "scores"
    pairs = {"all": tuple((MIX, arm) for arm in (*RIVALS, BASE))}
    words = ConventionsComparison.words | {"level": "score", "prompts": "unseen prompts, greedy"}
    notes = {BASE: "the policy before training", "rewrites": "imitates its own accepted rewrites"}


def read_heldout(out: Path, outcome: Outcome) -> list[dict[str, Any]]:
    """The held-out records that an outcome is about."""
    name = "validate" if outcome["job"]["arm"] == BASE else "last"
    return work.read_heldout(out / Job(**outcome["job"]).name, name)


def count_first_attempts(out: Path, outcome: Outcome) -> Outcome:
    """The same outcome, with who was right at the first attempt in place of who was in the end."""
    first = [float(record["score"] == 1.0 and record.get("turns", 1) == 1) for record in read_heldout(out, outcome)]
    return {**outcome, "right": first}


def measure_cuts(out: Path, outcomes: list[Outcome]) -> dict[str, float]:
    """For each generator, the share of the base's held-out answers that met the token limit."""
    found: dict[str, list[bool]] = {}
    for one in outcomes:
        setting = one["job"]["setting"]
        if one["job"]["arm"] == BASE and setting not in RETRIES:  # their tokens are those of two answers
            cuts = [record["tokens"] >= MAX_TOKENS[setting] for record in read_heldout(out, one)]
            found.setdefault(setting, []).extend(cuts)
    return {setting: float(np.mean(cuts)) for setting, cuts in found.items()}


def measure_constants(out: Path, outcomes: list[Outcome]) -> dict[str, float]:
    """For each generator, the share of held-out prompts whose answer is the commonest one: what a policy gets that says
    the same to every prompt."""
    found: dict[str, list[float]] = {}
    for one in outcomes:
        if one["job"]["arm"] == BASE and (same := compute_sameness(read_heldout(out, one))) is not None:
            found.setdefault(one["job"]["setting"], []).append(same.commonest)
    return {setting: float(np.mean(shares)) for setting, shares in found.items()}


def measure_variety(out: Path, outcome: Outcome) -> int:
    """How many different answers a policy gave to the held-out prompts."""
    return len({record["response"] for record in read_heldout(out, outcome)})


def list_ends(out: Path, outcomes: list[Outcome]) -> list[str]:
    """Where there was a second attempt, one line a run: right in the end."""
    told = []
    for one in outcomes:
        if one["job"]["setting"] in RETRIES:
            ends = np.mean([record["score"] for record in read_heldout(out, one)])
            told.append(f"{Job(**one['job']).name}: {ends:.1%} right in the end")
    return told


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
    for ended in work.run_all(jobs, args.out, args.workers):
        retried = ended["job"]["setting"] in RETRIES
        outcome = count_first_attempts(args.out, ended) if retried else ended
        found.append(outcome)
        name = Job(**outcome["job"]).name
        told = f"{np.mean(outcome['right']):.1%}, {outcome['seconds']:.0f} s, {len(found)} of {len(jobs)}"
        print(f"{name}: {told}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(ALL), default=list(SETTINGS))
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
    cuts = measure_cuts(args.out, outcomes)
    told = [f"{setting}: {cut:.1%} of the base's answers met the limit" for setting, cut in cuts.items()]
    constants = measure_constants(args.out, outcomes)
    told += [f"{setting}: one answer to all of them is right in {share:.1%}" for setting, share in constants.items()]
    told += [f"{Job(**one['job']).name}: {measure_variety(args.out, one)} different answers" for one in outcomes]
    print("\n".join([*compare_with_best(outcomes), *told, *list_ends(args.out, outcomes)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
