"""Does a Brier reward calibrate SmolLM2, at what cost in accuracy, and do critiques from a confident teacher undo it?

    python benchmarks/confidence.py --out runs/confidence

Three stages, each a `fdt` command: a format warm start (the bundled recorded answers, each followed by a confidence
drawn at random, so that the format is learned and nothing else), its export, and the arms of `task/sums_confidence`
from there. A finished stage is kept. Prints accuracy, Brier score, debiased ECE and AUROC on the held-out sums, with
95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.report.panels.calibration import Calibration, compute_calibrations  # noqa: E402
from fdt.report.runs import read_run  # noqa: E402
from fdt.report.table import format_interval  # noqa: E402
from fdt.resources import find_sample  # noqa: E402

ARMS = ("correctness", "brier", "brier_and_critiques", "correctness_and_critiques")
ASKED = " Then state how sure you are, as in: Confidence: 0.7"
LEVELS = [n / 10 for n in range(1, 10)]


def write_rows(name: str, path: Path, stated: bool) -> None:
    """Writes a bundled sample with prompts that ask for a confidence; revisions state one, for the warm start."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as out:
        for line in find_sample(name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            kept = {key: row[key] for key in ("id", "task", "reference", "expression") if key in row}
            kept["prompt"] = row["prompt"] + ASKED
            if stated:
                # A number of the policy's own, right or wrong: which one is right is no part of it.
                digits = "".join(c if c.isdigit() else " " for c in row["response"]).split()
                answer = digits[-1] if digits else row["reference"]
                kept["response"] = row["response"]
                kept["revision"] = f"{answer}\nConfidence: {rng.choice(LEVELS):.1f}"
            out.write(json.dumps(kept) + "\n")


def run_fdt(*arguments: object) -> None:
    """One command of the package; stops where it fails."""
    subprocess.run([sys.executable, "-m", "fdt", *map(str, arguments)], check=True, cwd=ROOT)


def make_warm_start(out: Path) -> Path:
    """The model folder of the policy that has learned the format."""
    folder = out / "warm"
    model = out / "warm-model"
    if not (folder / "table.json").exists():
        weights = "{policy: 0.0, distill: 0.0, imitate: 1.0}"
        run_fdt(
            "fit",
            "-c",
            "quickstart",
            "--arms=null",
            f"--trainer.default_root_dir={folder}",
            "--trainer.max_epochs=2",
            f"--data.file={out / 'warm.jsonl'}",
            f"--data.heldout={out / 'heldout.jsonl'}",
            "--data.source=Replay",
            f"--model.coefficients={weights}",
            "--data.evaluation_limit=50",
        )
    if not (model / "merged").exists():
        run_fdt("export", folder / "checkpoints" / "last.ckpt", model)
    return model / "merged"


def format_line(found: Calibration) -> str:
    """One row of the table."""
    measured = (format_interval(value, 1, ".3f") for value in (found.brier, found.debiased, found.auroc))
    cells = (
        found.label,
        found.answers,
        f"{found.stated_share:.0%}",
        f"{100 * found.accuracy:.1f}",
        *measured,
        found.alarm or "",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "confidence")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    args, more = parser.parse_known_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_rows("sums.jsonl", out / "warm.jsonl", stated=True)
    write_rows("sums_heldout.jsonl", out / "heldout.jsonl", stated=False)
    base = make_warm_start(out)
    print(
        "| arm | answers | state one | right, % | Brier | ECE, debiased | AUROC | |\n|---|--:|--:|--:|--:|--:|--:|---|"
    )
    for seed in range(args.seeds):
        folder = out / f"seed-{seed}"
        if not all((folder / arm / "eval" / "last.jsonl").exists() for arm in args.arms):
            run_fdt(
                "fit",
                "-c",
                "task/sums_confidence",
                f"--arms=[{', '.join(args.arms)}]",
                f"--model.base={base}",
                f"--trainer.default_root_dir={folder}",
                f"--data.file={out / 'warm.jsonl'}",
                f"--data.heldout={out / 'heldout.jsonl'}",
                f"--data.seed={seed}",
                f"--model.seed={seed}",
                *more,
            )
        print(
            *map(format_line, compute_calibrations([read_run(folder / arm) for arm in args.arms])), sep="\n", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
