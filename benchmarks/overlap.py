"""Seconds a step with sampling and update in turns and at the same time, and what was learned. Prints Markdown.

    python benchmarks/overlap.py --judge-seconds 2      # a judge that takes its time, answers by transformers
    FDT_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/overlap.py --engine vllm

Both arms take the same steps from the same seed on the default model's sums; reward and held-out score stand beside the
seconds, as the answers of the second are one update older. The first two steps are left out: the first has nothing to
overlap with.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from feedback.graders import Grader, NumberMatch
from feedback.types import Episode

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SlowJudge(Grader):
    """Judges sums as `NumberMatch` does, after a wait, as a judge behind an API does."""

    seconds: float = 0.0
    """How long it takes."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        time.sleep(self.seconds)
        return NumberMatch()(episodes)


def run(folder: Path, staleness: int, args: argparse.Namespace) -> dict[str, float]:
    """One arm: medians of its steps."""
    engine = "fdt.engines.VLLMServer" if args.engine == "vllm" else "fdt.engines.HuggingFace"
    source = "fdt.rollout.sources.OnPolicy"
    command = [sys.executable, "-m", "fdt", "fit", "-c", "quickstart", "--arms=null"]
    command += [f"--trainer.default_root_dir={folder}", f"--trainer.max_steps={args.steps}", "--trainer.max_epochs=-1"]
    command += [f"--model.base={args.model}", f"--data.evaluation_limit={args.heldout}"]
    command += ["--data.source", source, f"--data.source.max_staleness={staleness}"]
    command += [f"--data.engine={engine}", f"--data.engine.max_new_tokens={args.tokens}"]
    command += ["--data.engine.max_model_len=512"] if args.engine == "vllm" else []
    command += ["--data.grader=benchmarks.overlap.SlowJudge", f"--data.grader.seconds={args.judge_seconds}"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    with (folder / "metrics" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/time/step")][2:]
    found = {
        name: statistics.median(float(row[f"train/{name}"]) for row in rows) for name in ("time/step", "time/generate")
    }
    found["reward/mean"] = statistics.fmean(float(row["train/reward/mean"]) for row in rows)
    held = [json.loads(line)["score"] for line in (folder / "eval" / "last.jsonl").open()]
    return found | {"held-out score": statistics.fmean(held)}


def main() -> None:
    """Runs both arms, in turns, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="huggingface", choices=("huggingface", "vllm"))
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--heldout", type=int, default=16)
    parser.add_argument("--judge-seconds", type=float, default=0.0)
    args = parser.parse_args()
    print(
        "| max_staleness | s a step | of it waited for answers | reward, mean | held-out score |\n|--:|--:|--:|--:|--:|"
    )
    with tempfile.TemporaryDirectory() as place:
        for staleness in (0, 1):
            found = run(Path(place) / str(staleness), staleness, args)
            print(f"| {staleness} | " + " | ".join(f"{value:.3f}" for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
