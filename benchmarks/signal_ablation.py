"""Which part of `algorithm/dspo` does what? Each part left out, on the small world of `fdt bench signals`.

    python benchmarks/signal_ablation.py --settings headline sparse --seeds 3     # runs that are finished are kept

Everything else stays as shipped, the learning rate too. Differences are paired by seed and prompt.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdt.bench.base import Outcome
from fdt.bench.signals import SCORED_RATES, SETTINGS, Job
from fdt.bench.work import run_all
from fdt.statistics.nested import compute_nested_interval

Arm = dict[str, Any]
WHOLE = "nothing"
ARM = "dspo"


def share_moments(arm: Arm) -> None:
    """One Adam for the sum of the terms."""
    arm["model"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.0}}


def believe_everyone(arm: Arm) -> None:
    """Every critique and every score counts in full."""
    del arm["model"]["trust"]
    for term in arm["model"]["terms"].values():
        term.get("init_args", {}).pop("gate", None)
    ignore_contradictions(arm)


def remove_token_weight(arm: Arm, path: str) -> None:
    """One of the factors on the tokens of the distillation is 1."""
    factors = arm["model"]["terms"]["distill"]["init_args"]["token_weight"]["init_args"]
    factors["weights"] = [factor for factor in factors["weights"] if factor["class_path"] != path]


def trust_every_token(arm: Arm) -> None:
    """What a teacher says after a token that it rejects counts as much as what it says before."""
    remove_token_weight(arm, "objectives.PrefixTrust")


def ignore_contradictions(arm: Arm) -> None:
    """A critique teaches whatever the score of its row says."""
    remove_token_weight(arm, "objectives.ScoreAgreement")


def seek_modes(arm: Arm) -> None:
    """Reverse KL in place of forward KL."""
    del arm["model"]["terms"]["distill"]["init_args"]["divergence"]


def drop_anchor(arm: Arm) -> None:
    """Nothing holds back what no critique reaches."""
    arm["model"]["coefficients"]["anchor"] = 0.0


def compare_groups(arm: Arm) -> None:
    """The group in place of the batch as the baseline of a score."""
    arm["data"]["credit"] = {"class_path": "objectives.GroupRelative"}


def forget_scores(arm: Arm) -> None:
    """Scored answers are learned from once."""
    del arm["data"]["source"]["init_args"]["memory"]


def keep_rate(arm: Arm) -> None:
    """The learning rate stays as it is."""
    del arm["model"]["lr_scheduler_type"]


PARTS: dict[str, Callable[[Arm], None]] = {
    "moments per term": share_moments,
    "trust": believe_everyone,
    "forward KL": seek_modes,
    "agreement": ignore_contradictions,
    "prefix trust": trust_every_token,
    "anchor": drop_anchor,
    "mean of the batch": compare_groups,
    "memory": forget_scores,
    "linear decay": keep_rate,
}


@dataclass(frozen=True)
class Ablation(Job):
    """A run of the mix without one of its parts."""

    without: str = WHOLE

    @property
    def name(self) -> str:
        return f"{self.setting}/without-{self.without.replace(' ', '-')}/seed-{self.seed}"

    def build_overrides(self) -> list[dict[str, Any]]:
        arm, own = super().build_overrides()
        arm = copy.deepcopy(arm)
        if self.without != WHOLE:
            PARTS[self.without](arm)
        return [arm, own]


def tabulate(setting: str, found: dict[tuple[str, int], Outcome], parts: list[str], seeds: int) -> list[str]:
    """One line a part: right answers in per cent, and the difference from the whole, in points with its interval."""
    lines = [f"| {setting}: without | right, % | each seed | minus the whole, points [95 %] |", "|---|---:|---|---:|"]
    whole = [np.array(found[WHOLE, seed]["right"], dtype=float) for seed in range(seeds)]
    for part in (WHOLE, *parts):
        runs = [np.array(found[part, seed]["right"], dtype=float) for seed in range(seeds)]
        cells = [f"{100 * np.mean([run.mean() for run in runs]):.1f}", " ".join(f"{100 * r.mean():.0f}" for r in runs)]
        gap = compute_nested_interval([run - base for run, base in zip(runs, whole, strict=True)])
        shown = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if part != WHOLE else ""
        lines.append(f"| {part} | {' | '.join(cells)} | {shown} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["headline", "sparse"])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="leave out only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/signal_ablation"))
    args = parser.parse_args()
    jobs = [
        Ablation(setting, ARM, seed, SCORED_RATES[ARM], without=part)
        for setting in args.settings
        for part in (WHOLE, *args.parts)
        for seed in range(args.seeds)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    outcomes: dict[tuple[str, str, int], Outcome] = {}
    for number, outcome in enumerate(run_all(list(jobs), args.out, args.workers), 1):
        job = Ablation(**outcome["job"])
        outcomes[job.setting, job.without, job.seed] = outcome
        print(f"{job.name}: {np.mean(outcome['right']):.1%} ({number} of {len(jobs)})", file=sys.stderr, flush=True)
    lines: list[str] = []
    for setting in args.settings:
        found = {(part, seed): run for (name, part, seed), run in outcomes.items() if name == setting}
        lines += [*tabulate(setting, found, args.parts, args.seeds), ""]
    (args.out / "ablation.md").write_text("\n".join(lines), encoding="utf-8")
    (args.out / "ablation.json").write_text(json.dumps(list(outcomes.values())), encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
