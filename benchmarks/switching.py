"""Does a penalty on switching thoughts (TIP, arXiv 2501.18585) help? SmolLM2 reasons about sums, with and without it.

    python benchmarks/switching.py
    python benchmarks/switching.py --model FOLDER --sums 64 --tokens 512

Both arms draw answers to the same sums from the same seed at temperature 1 with `fdt.engines.HuggingFace`; one has
`switching: SwitchPenalty` with the paper's alpha 3 and beta 600. An answer's last number counts. A thought is right
where it holds the right number. Changes are paired by sum; intervals: 95 %, bootstrap over sums. Where answers hold
hardly a switch there is nothing to penalise: the last column counts those that switch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from sums import read_held_out

from fdt.data.tokenization import tokenize_prompt
from fdt.engines import HuggingFace, SwitchPenalty
from fdt.evaluation.underthinking import ReasoningTrace, split_thoughts, underthinking
from fdt.policy.policy import Policy
from fdt.report.table import format_interval
from fdt.statistics.intervals import compute_mean_interval, compute_paired_difference
from feedback.graders.number import NUMBER, find_last_number

ASKED = "What is {}? Think step by step, check your result another way, and end with the number."


def judge_answer(text: str, reference: str, tokenizer) -> tuple[ReasoningTrace, int]:
    """How an answer thought, and how often it switched."""
    parts = split_thoughts(text)
    length = len(tokenizer(text)["input_ids"])
    useful = None
    right = find_last_number(reference)
    for place, part in enumerate(parts):
        if right in map(find_last_number, NUMBER.findall(part)):
            useful = min(length, sum(len(tokenizer(piece)["input_ids"]) for piece in parts[: place + 1]))
            break
    return ReasoningTrace(find_last_number(text) == right, length, useful), len(parts) - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--sums", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of an answer")
    parser.add_argument("--alpha", type=float, default=3.0)
    parser.add_argument("--beta", type=int, default=600)
    args = parser.parse_args()
    policy = Policy(args.model).eval()
    given = read_held_out(args.sums)
    prompts = [
        tokenize_prompt([{"role": "user", "content": ASKED.format(text)}], policy.tokenizer) for text, _ in given
    ]
    found = {}
    for name, penalty in (("none", None), ("TIP", SwitchPenalty(args.alpha, args.beta))):
        with torch.no_grad():
            drawn = HuggingFace(args.tokens, switching=penalty).generate(policy, prompts, 0)
        texts = [policy.tokenizer.decode(list(one.ids), skip_special_tokens=True) for one in drawn]
        found[name] = [
            judge_answer(text, right, policy.tokenizer) for text, (_, right) in zip(texts, given, strict=True)
        ]
    print_table(found)
    return 0


def print_table(found: dict[str, list[tuple[ReasoningTrace, int]]]) -> None:
    """One line for each penalty; changes are against none, paired by sum."""
    print("| penalty | right, % | change, points | switches an answer | change | underthinking | answers that switch |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    right = {name: [float(one.correct) for one, _ in own] for name, own in found.items()}
    switches = {name: [float(count) for _, count in own] for name, own in found.items()}
    for name, own in found.items():
        changes = (
            ["", ""]
            if name == "none"
            else [
                format_interval(compute_paired_difference(right["none"], right[name]), 100, "+.1f"),
                format_interval(compute_paired_difference(switches["none"], switches[name]), 1, "+.2f"),
            ]
        )
        levels = (
            format_interval(compute_mean_interval(right[name]), 100, ".1f"),
            format_interval(compute_mean_interval(switches[name]), 1, ".2f"),
        )
        waste = underthinking([one for one, _ in own])
        switched = sum(count > 0 for count in switches[name])
        cells = (name, levels[0], changes[0], levels[1], changes[1], f"{waste:.3f}", switched)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
