"""Does RL narrow, and do diverse demonstrations help? The small world with two right answers to each prompt.

    python benchmarks/breadth.py --root runs/breadth
    python benchmarks/breadth.py --root runs/breadth --seeds 5 --arms scores both_shown warm

Each arm of `configs/task/tolerant.yaml` from each seed (which is also the seed of the world), measured before and after
by eight sampled answers to each of 128 held-out prompts. Intervals: 95 %, resampling seeds, then prompts; changes are
paired by prompt. What is in ``--root`` already is not run again. An arm takes about half a minute of one core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fdt.bench.base import write_overlay
from fdt.bench.work import read_heldout, redirect_output
from fdt.statistics.nested import compute_nested_interval

CONFIG = "task/tolerant"
ARMS = ("scores", "both", "one_shown", "both_shown", "warm")
MEASURES = {
    "pass_at_1": ("pass@1, %", 100),
    "pass_at_8": ("pass@8, %", 100),
    "right_solutions": ("right answers of 2", 1),
    "solutions": ("answers of 8 samples", 1),
    "wrong_unique": ("different among wrong, %", 100),
    "entropy": ("entropy, nats/token", 1),
}


def train(arm: str, seed: int, folder: Path) -> None:
    """One real `fdt fit`, in this process; what it prints goes to a file beside its folder."""
    import yaml

    from fdt.cli.run.lightning_cli import NoReportCLI, launch
    from fdt.resources import resolve

    content = yaml.safe_load(resolve(CONFIG).read_text(encoding="utf-8"))
    own = {
        "seed_everything": seed,
        "model": {"seed": seed},
        "data": {"seed": seed, "environment": {"init_args": {"world_seed": seed}}},
        "trainer": {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False},
    }
    paths = [write_overlay(folder, number, part) for number, part in enumerate((content["arms"][arm], own))]
    argv = ["fit", "-c", str(resolve(CONFIG)), *(word for path in paths for word in ("-c", str(path)))]
    with redirect_output(folder.with_name(f"{folder.name}.log")):
        launch([*argv, "--arms=null", f"--trainer.default_root_dir={folder}"], NoReportCLI)


def format_line(arm: str, folders: list[Path]) -> str:
    """One row of the table: each measure after training, and its change."""
    cells = [arm]
    for name, (_, scale) in MEASURES.items():
        levels = []
        changes = []
        for folder in folders:
            pairs = [
                (b[name], a[name])
                for b, a in zip(read_heldout(folder, "base"), read_heldout(folder, "last"), strict=True)
            ]
            known = [(before, after) for before, after in pairs if before is not None and after is not None]
            levels.append([scale * after for _, after in known])
            changes.append([scale * (after - before) for before, after in known])
        cells.append(format_change(levels, changes))
    return f"| {' | '.join(cells)} |"


def format_change(levels: list[list[float]], changes: list[list[float]]) -> str:
    """The level and its change with its interval; a dash where no seed measured it."""
    kept = [n for n, own in enumerate(levels) if own]
    if not kept:
        return "-"
    level, change = (compute_nested_interval([values[n] for n in kept]) for values in (levels, changes))
    return f"{level.mean:.2f} ({change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/breadth"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    args = parser.parse_args()
    folders = {arm: [args.root / arm / f"seed-{seed}" for seed in range(args.seeds)] for arm in args.arms}
    for seed in range(args.seeds):
        for arm in args.arms:
            if not (folders[arm][seed] / "eval" / "last.jsonl").exists():
                train(arm, seed, folders[arm][seed])
    start = [read_heldout(folder, "base") for folder in folders[args.arms[0]]]
    print(
        "before: "
        + ", ".join(
            f"{label} {scale * sum(v) / len(v):.2f}"
            for name, (label, scale) in MEASURES.items()
            if (v := [r[name] for own in start for r in own if r[name] is not None])
        )
    )
    print(f"| arm | {' | '.join(label for label, _ in MEASURES.values())} |\n|---|{'---|' * len(MEASURES)}")
    for arm in args.arms:
        print(format_line(arm, folders[arm]), flush=True)


if __name__ == "__main__":
    main()
