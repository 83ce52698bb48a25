"""Does the similarity of single steps help where every final score is 0? SRL, then RLVR, beside RLVR alone.

    python benchmarks/step_signal.py --seeds 0 1 2       # runs that are finished are kept

A task is a chain: three users, one of them twice, each with a hidden convention for a list of digits (the small world
of `fdt.environments.conventions`). The policy answers each user with a list, the next user gets that list, and one
score at the end is 1 where all four were right. (The last list alone would not do: conventions undo each other, and
a wrong way often ends at the right list.) A policy that guesses among eight conventions is right once in 4,096
chains. The expert's chains are cut into steps by `fdt data steps`: three of four, since the last step is never a
target. It follows from the others, as a solution's last step should: its user came up before. (Where a fourth user
stood there, SRL left no variety at that step, and RLVR after it met no success in 40 steps: a pilot run, seed 9.)

The policy is the bundled tiny one, which first learns what a chain looks like: conventions drawn at random at each
turn, so that it can carry out every step and knows nothing about any user. Both arms start there, take equally many
optimiser steps, and are measured on the same held-out chains, greedily.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from fdt.environments.conventions import build_lists
from fdt.statistics.intervals import compute_mean_interval

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))  # a run names the world as chains.Chain

from chains import CHAIN, LINKS, Chain, build_conversation, train_warm_start  # noqa: E402

RATE = 5e-4
PROMPTS = 8
"""Of one optimiser step."""
ANSWERS = 8
"""To each of them."""


def build_settings(base: Path, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """What both arms share."""
    return {
        "trainer": {
            "default_root_dir": str(folder),
            "max_steps": steps,
            "max_epochs": -1,
            "accelerator": "cpu",
            "check_val_every_n_epoch": 1000,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {
            "base": str(base),
            "lora": None,
            "dtype": "float32",
            "warmup_steps": 5,
            "log_kl_to_init": False,
            "tokens_per_microbatch": 16384,
            "seed": seed,
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": RATE, "weight_decay": 0.0}},
        },
        "data": {
            "hint": None,
            "max_tokens": 256,
            "evaluation_batch": 512,
            "seed": seed,
            "engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": 8, "batch_size": 512}},
        },
    }


def fit(name: str, content: dict[str, Any], *overlays: str) -> Path:
    """One `fdt fit` in this process; its run folder."""
    from fdt.cli.run.lightning_cli import NoReportCLI, launch

    folder = Path(content["trainer"]["default_root_dir"])
    if (folder / "checkpoints" / "last.ckpt").exists() and (folder / "eval" / "last.jsonl").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    configs = [str(ROOT / "configs" / f"{overlay}.yaml") for overlay in overlays] + [str(path)]
    began = time.monotonic()
    launch(["fit", *(word for config in configs for word in ("-c", config))], NoReportCLI)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return folder


def run_rlvr(base: Path, folder: Path, seed: int, steps: int) -> Path:
    """Final scores alone."""
    content = build_settings(base, folder, seed, steps)
    content["data"] |= {
        "environment": {"class_path": "chains.Chain", "init_args": {"world_seed": seed}},
        "limits": {"tasks": 1024, "heldout": 96, "max_turns": LINKS},
        # Groups without any difference are left out, as the other arm's are: they would cost a forward for nothing.
        "source": {
            "class_path": "fdt.rollout.sources.OnPolicy",
            "init_args": {"prompts_per_rollout": PROMPTS, "num_generations": ANSWERS, "dynamic": {"max_refills": 0}},
        },
    }
    content["model"]["terms"] = {"policy": {"class_path": "objectives.PolicyGradient"}}
    return fit(folder.name, content)


def run_srl(base: Path, folder: Path, seed: int, steps: int) -> Path:
    """Similarity of single steps; gives the folder of the model it leaves."""
    from fdt.cli.data.main import main as data
    from fdt.cli.export import export

    model = folder.parent / f"{folder.name}-model"
    if model.exists():
        return model / "merged"
    chains = [Chain(seed).build_task(digits) for digits in random.Random(seed).sample(build_lists("train"), 512)]
    folder.mkdir(parents=True, exist_ok=True)
    experts, cut, held = (folder.parent / f"{folder.name}-{part}.jsonl" for part in ("experts", "steps", "held"))
    records = [
        {"id": task.key, "messages": build_conversation(task.meta["digits"], task.meta["way"])} for task in chains
    ]
    experts.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    if data(["steps", str(experts), str(cut), "--force"]):
        raise SystemExit("step_signal: the expert's chains could not be cut")
    held.write_text(json.dumps({"prompt": f"{CHAIN[0]}: 0123", "reference": "-"}) + "\n", encoding="utf-8")
    content = build_settings(base, folder, seed, steps)
    content["data"] |= {
        "file": str(cut),
        "heldout": str(held),
        # This policy has no thoughts to close.
        "grader": {"class_path": "feedback.graders.StepSimilarity", "init_args": {"require_thinking": False}},
        "source": {"init_args": {"prompts_per_rollout": PROMPTS, "num_generations": ANSWERS}},
    }
    run = fit(folder.name, content, "algorithm/srl")
    export(run / "checkpoints" / "last.ckpt", model, ["merged"])
    return model / "merged"


def read_results(run: Path) -> dict[str, Any]:
    """Held-out scores before and after, the training rewards, and how many training answers were right."""
    held = {
        name: [json.loads(line)["score"] for line in (run / "eval" / f"{name}.jsonl").open()]
        for name in ("base", "last")
    }
    with (run / "metrics" / "version_0" / "metrics.csv").open() as file:
        rows = [
            float(row["train/reward/mean_sampled"])
            for row in csv.DictReader(file)
            if row.get("train/reward/mean_sampled")
        ]
    without = sum(value == 0 for value in rows)
    return {"held": held, "right": sum(rows) * PROMPTS * ANSWERS, "without": without, "steps": len(rows)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs=2, default=(60, 20), metavar=("SRL", "RLVR"), help="optimiser steps")
    parser.add_argument("--warm", type=int, default=200, help="steps of the common warm start")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "step_signal")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "warm" / "config.json").exists():
        train_warm_start(args.out / "warm", args.warm)
    first, second = args.steps
    lines = []
    for seed in args.seeds:
        trained = run_srl(args.out / "warm", args.out / f"seed{seed}-srl", seed, first)
        both = read_results(run_rlvr(trained, args.out / f"seed{seed}-srl-rlvr", seed, second))
        alone = read_results(run_rlvr(args.out / "warm", args.out / f"seed{seed}-rlvr", seed, first + second))
        for name, found in (("RLVR alone", alone), ("SRL, then RLVR", both)):
            lines.append((seed, name, found))
            low, high = (compute_mean_interval(found["held"][part]) for part in ("base", "last"))
            after = f"{high.mean:.3f} [{high.low:.3f}, {high.high:.3f}]"
            print(
                f"seed {seed}, {name}: held-out {low.mean:.3f} before, {after} after; "
                f"{found['right']:.0f} right training chains in {found['steps']} steps, "
                f"{found['without']} of them without any",
                flush=True,
            )
    (args.out / "results.json").write_text(json.dumps(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
