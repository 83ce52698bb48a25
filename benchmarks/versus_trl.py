"""A training step of fdt beside TRL's: time, tokens a second, peak memory, and where the time goes. Prints Markdown.

GRPO against `GRPOTrainer`, scores and critiques against `SDPOTrainer` (top-k with a tail), with one model, prompts,
group size, lengths, adapters, dtype, optimiser and number of threads. Each trainer is a process of its own, and they
step in turn; the first step of each is not counted. CPU s is what all threads of a step computed, which others on the
machine cannot stretch as they stretch the clock. Before that, both compute loss and gradient on the same rollouts,
which must agree. TRL runs in its fastest stock setting on this kind of machine: no gradient checkpointing (unless
--checkpointing), its fused head, all rows in one forward (unless --rows).

    python benchmarks/versus_trl.py                                     # CPU: SmolLM2, 16 answers of at most 32 tokens
    python benchmarks/versus_trl.py --long                              # answers of at most 256 tokens
    python benchmarks/versus_trl.py --algorithms sdpo --steps 5 --threads 2
    python benchmarks/versus_trl.py --device cuda --model FOLDER --answer-tokens 2048 --rows 4 --checkpointing
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from versus.work import Work

SIDES = ("TRL", "fdt")
PARTS = ("rollout", "forward", "backward", "other")
LONG = {"answer_tokens": 256, "steps": 1}


@dataclass
class Measured:
    """What one trainer took: its steps, and the peak of its process."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    peak: int = 0

    def get_median(self, name: str) -> float:
        """The median over steps of a count or of a part's seconds."""
        return statistics.median(self.get_values(name))

    def get_values(self, name: str) -> list[float]:
        """A count of each step, or the seconds that it spent on a part."""
        if name == "other":
            return [step["seconds"] - sum(step["parts"].values()) for step in self.steps]
        return [step.get(name, step["parts"].get(name, 0.0)) for step in self.steps]

    @property
    def rollout_speed(self) -> float:
        """Generated tokens a second of generation."""
        return self.get_median("answered") / max(self.get_median("rollout"), 1e-9)

    @property
    def update_speed(self) -> float:
        """Tokens of prompts and answers a second of everything else."""
        rest = [step["seconds"] - step["parts"].get("rollout", 0.0) for step in self.steps]
        return self.get_median("read") / max(statistics.median(rest), 1e-9)


def start(side: str, work: Work, threads: int) -> subprocess.Popen:
    """The process of one trainer."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, __file__, "--side", side, json.dumps(asdict(work))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ask(child: subprocess.Popen, word: str) -> dict[str, Any]:
    """Has a trainer make a step or end, and reads what it says of it."""
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        child.wait()
        sys.exit(f"a trainer ended with exit code {child.returncode}:\n{child.stderr.read()[-4000:]}")
    return json.loads(line)


def measure(work: Work, threads: int, warm_up: bool = True) -> dict[str, Measured]:
    """Both trainers, stepping in turn; without a warm-up the first step counts too."""
    children = {side: start(side, work, threads) for side in SIDES}
    found = {side: Measured() for side in SIDES}
    for number in range(0 if warm_up else 1, work.steps + 1):
        for side in SIDES if number % 2 else reversed(SIDES):
            step = ask(children[side], "step")
            print(f"# {work.algorithm} {side} step {number}: {step['seconds']:.1f} s", file=sys.stderr, flush=True)
            if step["answers"] != work.total:
                sys.exit(f"{side} trained on {step['answers']} answers of {work.total}: nothing can be compared")
            if number:  # the first one allocates
                found[side].steps.append(step)
    for side, child in children.items():
        last = ask(child, "end")
        found[side].peak = last["peak"]
        child.wait()
    return found


def print_head() -> None:
    """The head of the table."""
    parts = " | ".join(f"{part} s" for part in PARTS)
    print(
        f"| algorithm | trainer | step, median s | min–max | CPU s | rollout tok/s | update tok/s | peak GiB | {parts} "
        "| tokens an answer |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|" + "--:|" * (len(PARTS) + 1), flush=True)


def print_rows(algorithm: str, found: dict[str, Measured]) -> None:
    """One row for each trainer, and one with the ratio."""
    for side in SIDES:
        print(f"| {algorithm} | {side} | {format_row(found[side])} |")
    theirs, ours = (found[side] for side in SIDES)
    ratio = ours.get_median("seconds") / theirs.get_median("seconds")
    computed = ours.get_median("computed") / theirs.get_median("computed")
    speeds = f"{ours.rollout_speed / theirs.rollout_speed:.2f} | {ours.update_speed / theirs.update_speed:.2f}"
    peaks = f"{ours.peak / theirs.peak:.2f} |" + " |" * (len(PARTS) + 1)
    print(
        f"| {algorithm} | fdt / TRL | {ratio:.2f} | | {computed:.2f} | {speeds} | {peaks}",
        flush=True,
    )


def format_row(one: Measured) -> str:
    """The cells of one trainer."""
    times = one.get_values("seconds")
    cells = [f"{statistics.median(times):.1f}", f"{min(times):.1f}–{max(times):.1f}"]
    cells += [f"{one.get_median('computed'):.1f}"]
    cells += [f"{one.rollout_speed:.0f}", f"{one.update_speed:.0f}", f"{one.peak / 2**30:.2f}"]
    cells += [f"{one.get_median(part):.1f}" for part in PARTS]
    answers = one.get_median("answered") / one.get_median("answers")
    return " | ".join([*cells, f"{answers:.1f}"])


def check_same(work: Work, threads: int) -> str:
    """What the check of equal work found, in a process of its own.

    Raises:
        SystemExit: where loss or gradient differ.
    """
    done = subprocess.run(
        [sys.executable, __file__, "--side", "same", json.dumps(asdict(work))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        sys.exit(f"{work.algorithm}: the same rollouts do not give the same step.\n{done.stdout}{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def run_side(side: str, work: Work) -> int:
    """What a process of its own does."""
    if side == "same":
        from versus.same_work import compare

        small = replace(work, prompts=min(work.prompts, 2), answer_tokens=min(work.answer_tokens, 16))
        found = compare(small)
        print(
            f"{work.algorithm}, float32, {small.total} rollouts: loss {found.loss[0]:.6f} (TRL) and "
            f"{found.loss[1]:.6f} (fdt), gradient norm {found.norm[0]:.5f} and {found.norm[1]:.5f}, "
            f"norm of their difference {found.gap:.1e} of it"
        )
        return 0 if found.same else 1
    if side == "TRL":
        from versus.trl_side import run
    else:
        from versus.fdt_side import run
    run(work)
    return 0


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="alias, folder or hub id of the model")
    parser.add_argument("--algorithms", nargs="+", default=["grpo", "sdpo"], choices=("grpo", "sdpo"))
    parser.add_argument("--long", action="store_true", help="answers of at most 256 tokens, one measured step")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, for each trainer while it steps")
    parser.add_argument("--skip-check", action="store_true", help="leave out the check of equal loss and gradient")
    parser.add_argument("--no-warm-up", action="store_true", help="count the first step of each trainer too")
    for each in fields(Work):
        name = f"--{each.name.replace('_', '-')}"
        if each.name in ("model", "algorithm"):
            continue
        if isinstance(each.default, bool):
            parser.add_argument(name, action="store_true", default=None)
        else:
            parser.add_argument(name, type=type(each.default), help=f"default {each.default}")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def build_work(arguments: argparse.Namespace) -> Work:
    """What is asked for: options win over --long, and that over the defaults."""
    from fdt.policy.hub import resolve_model

    given = {each.name: getattr(arguments, each.name, None) for each in fields(Work) if each.name != "model"}
    given = {name: value for name, value in given.items() if value is not None}
    return Work(model=str(resolve_model(arguments.model)), **((LONG if arguments.long else {}) | given))


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    if arguments.side:
        return run_side(arguments.side[0], Work(**json.loads(arguments.side[1])))
    base = build_work(arguments)
    works = {name: replace(base, algorithm=name) for name in arguments.algorithms}
    import torch
    import transformers
    import trl

    versions = f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
    day = f"{datetime.datetime.now().astimezone():%Y-%m-%d}"
    print(
        f"{day}, {Path(base.model).name}, {base.dtype} on {base.device}, {arguments.threads} thread(s), LoRA rank "
        f"{base.rank}, {base.prompts} prompts of {base.prompt_tokens} tokens x {base.generations} answers of at most "
        f"{base.answer_tokens}, {base.steps} step(s) each; {versions}\n"
    )
    checks = [] if arguments.skip_check else [check_same(work, arguments.threads) for work in works.values()]
    print("".join(f"Same work: {line}.\n" for line in checks))
    print_head()
    for name, work in works.items():
        print_rows(name, measure(work, arguments.threads, not arguments.no_warm_up))
    return 0


if __name__ == "__main__":
    sys.exit(main())
