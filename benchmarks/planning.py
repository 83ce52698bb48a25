"""What `fdt plan --measure` says against what runs on this machine take: seconds a step, and memory. Prints Markdown.

    OMP_NUM_THREADS=1 python benchmarks/planning.py
    OMP_NUM_THREADS=1 python benchmarks/planning.py --cases "scores, sampled" --steps 8

Each case is a run of the default model. What a plan is told (tokens of prompts, answers and hints, the share of
answers with a hint or a correction) is counted in the run: the plan's arithmetic is compared, and not a guess about
the data. Seconds are those that the main thread computed, or of several ranks those that passed: of runs the shortest
step without the first, of plans the shortest, since what else the machine does only adds; runs and plans take turns,
so that both meet the same machine. Memory is the largest of the process beyond what it took before the model was
loaded; of files mapped into it, those of weights. Of several ranks it is the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.cli.plan.probe import PLUGS, build_trainer, find_shortest_step, read_steps  # noqa: E402

Row = dict[str, float]


def build_cases(tokens: int) -> dict[str, dict[str, Any]]:
    """Settings over a run of adapters."""
    source = "fdt.rollout.sources"
    critique = {
        "class_path": f"{PLUGS}.AnyScore",
        "init_args": {"critique": "Wrong: say it in fewer words."},
    }
    sampled: dict[str, Any] = {
        "data.source": {"class_path": f"{source}.OnPolicy", "init_args": {"prompts_per_rollout": 2}},
        "data.engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": tokens}},
        "data.grader": {"class_path": f"{PLUGS}.AnyScore"},
    }
    scores = sampled | {"model.terms": {"policy": {"class_path": "objectives.PolicyGradient"}}}
    more = {"class_path": f"{source}.OnPolicy", "init_args": {"prompts_per_rollout": 3}}
    apart = {"data.grader": critique, "data.source": more, "model.teacher": "fdt.policy.teachers.EMA"}
    apart |= {"model.optimizer": "fdt.policy.optimizers.SignalAdamW"}
    replay, longer = (
        {"data.source": {"class_path": f"{source}.Replay", "init_args": {"rows_per_step": rows}}} for rows in (8, 16)
    )
    strategy = {"class_path": "fdt.policy.fsdp.FSDP2", "init_args": {"process_group_backend": "gloo"}}
    sharded = {"trainer.devices": 2, "trainer.strategy": strategy, "model.lora": None}
    return {
        "scores, sampled": scores,
        "scores, sampled, all weights": scores | {"model.lora": None},
        "scores and critiques, sampled": sampled | {"data.grader": critique},
        "scores and critiques, from a file": sampled | replay,
        "scores, 16 rows of a file": scores | longer,
        "scores, sampled, recomputed": scores | {"model.gradient_checkpointing": True},
        "scores, sampled, base in float32": scores | {"model.dtype": "float32"},
        "critiques, averaged teacher, moments per term": sampled | apart,
        "scores and critiques, from a file, two ranks": sampled | replay | {"trainer.devices": 2},
        "scores and critiques, from a file, all weights in two shards": sampled | replay | sharded,
    }


def write_config(folder: Path, changes: dict[str, Any], steps: int) -> Path:
    """The run's config, beside its data: questions whose answers are as long as they may be."""
    folder.mkdir(parents=True)
    rows = folder / "rows.jsonl"
    names = ("a lighthouse", "the sea", "a mill", "two brothers", "a map", "winter", "a clock", "the harbour")
    with rows.open("w") as file:
        for number in range(128):  # more than the steps read, so that none is a last one of fewer rows
            asked = f"Tell a long story about {names[number % 8]} and {names[number // 8 % 8]}, chapter by chapter."
            told = f"Once upon a time there was {names[number % 8]}. " * 3
            row = {"prompt": asked, "response": told, "score": number % 3 / 2, "critique": "Say it in fewer words."}
            file.write(json.dumps(row) + "\n")
    content: dict[str, Any] = {
        "trainer": build_trainer(folder, steps) | {"accelerator": "cpu"},
        "model": {"base": "smollm2-135m-instruct", "lora": {"rank": 16}},
        "data": {"file": str(rows), "heldout": 0.1, "evaluation_limit": 4},
    }
    for name, value in changes.items():
        block, setting = name.split(".")
        content[block][setting] = value
    path = folder / "config.yaml"
    path.write_text(json.dumps(content))
    return path


def measure(path: Path) -> tuple[Row, list[str]]:
    """Seconds and bytes of a run, and what a plan is told about it."""
    command([sys.executable, "-m", "fdt", "fit", "-c", str(path)])
    steps = read_steps(path.parent)
    step, generate = find_shortest_step(steps)
    found = {"step": step, "generate": generate, "memory": max(row["memory"] for row in steps)}
    mean = {name: statistics.fmean(row[name] for row in steps[1:]) for name in steps[0]}
    told = [f"--prompt-tokens={mean['prompt']:.0f}", f"--answer-tokens={mean['answer']:.0f}"]
    told += [f"--hinted-share={mean['hinted']:.3f}", f"--hint-tokens={max(1.0, mean['hint']):.0f}"]
    told.append(f"--imitated-share={mean['imitated']:.3f}")
    return found, told


def plan(path: Path, told: Sequence[str]) -> Row:
    """What is planned for the same config."""
    text = command([sys.executable, "-m", "fdt", "plan", "-c", str(path), "--measure", "--json", *told])
    found = json.loads(text)
    return {**{name: found["seconds"][name] for name in ("step", "generate")}, "memory": max(found["peaks"].values())}


def compare(folder: Path, changes: dict[str, Any], steps: int, rounds: int) -> tuple[Row, list[str], Row]:
    """Runs and plans in turns: the run's numbers, what the plan was told, and its numbers."""
    runs, plans = [], []
    told: list[str] = []
    for number in range(rounds):
        path = write_config(folder / str(number), changes, steps)
        found, told = measure(path)
        runs.append(found)
        plans.append(plan(path, told))
    return min(runs, key=itemgetter("step")), told, min(plans, key=itemgetter("step"))


def command(line: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}:\n{done.stderr[-3000:]}")
    return done.stdout


def main() -> None:
    """Runs and plans each case, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=None, help="some of them, with semicolons between; all by default")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1, help="runs and plans of each, in turns")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    args = parser.parse_args()
    cases = build_cases(args.tokens)
    chosen = args.cases.split(";") if args.cases else list(cases)
    print(
        "| run | s a step, measured | planned | off by | of it sampling | planned | GB, measured | planned | off by |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(chosen):
            found, told, expected = compare(Path(place) / str(number), cases[name], args.steps, args.rounds)
            off = {key: f"{expected[key] / found[key] - 1:+.0%}" for key in ("step", "memory")}
            times = f"{found['step']:.2f} | {expected['step']:.2f} | {off['step']} | {found['generate']:.2f} | "
            times += f"{expected['generate']:.2f}"
            sizes = f"{found['memory'] / 1e9:.2f} | {expected['memory'] / 1e9:.2f} | {off['memory']}"
            print(f"| {name} | {times} | {sizes} |  <!-- {' '.join(told)} -->", flush=True)


if __name__ == "__main__":
    main()
