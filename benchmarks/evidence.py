"""Full-length tables, by hand: ``make evidence``. Runs every arm of ``configs/evidence.yaml`` for several seeds.

python benchmarks/evidence.py --seeds 3
python benchmarks/evidence.py --shepherd PATH/human_data_raw.jsonl     # adds one epoch of human feedback
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fit(config: str, folder: Path, *more: str) -> None:
    """One ``fdt fit``; a finished folder is kept."""
    if (folder / "table.json").exists():
        print(f"evidence: {folder} is finished, kept")
        return
    command = [sys.executable, "-m", "fdt", "fit", "-c", config, f"--trainer.default_root_dir={folder}", *more]
    subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the sums table")
    parser.add_argument("--shepherd", type=Path, help="human_data_raw.jsonl of Shepherd (CC BY-NC 4.0, not bundled)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "evidence")
    parser.add_argument("more", nargs="*", help="further settings for every run, such as --trainer.max_steps=5")
    args, unknown = parser.parse_known_args()
    more = [*args.more, *unknown]
    for seed in range(args.seeds):
        fit("evidence", args.out / f"sums-seed{seed}", f"--data.seed={seed}", f"--model.seed={seed}", *more)
    if args.shepherd is None:
        print("evidence: no --shepherd FILE given, the table of human feedback is left out")
    else:
        fit("task/shepherd", args.out / "shepherd", f"--data.file={args.shepherd}", *more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
