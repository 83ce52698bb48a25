"""Does a judge judge better when it reasons before its verdict? SmolLM2 on sums, one right and one near answer to each.

    python benchmarks/reasoning_judge.py
    python benchmarks/reasoning_judge.py --sums 64 --model FOLDER

For each bundled held-out sum the judge sees the right answer and one that is off by 1, 2 or 10, and is asked whether it
is right; its score is log P("Yes") - log P("No"). *At once*: it answers directly. *After reasoning*: it first works the
sum out in its own words (greedy, ``--tokens`` at most), then is asked the same. *Pairs*: share of the sums whose right
answer scores higher, ties count half. Changes are paired by sum; intervals: 95 %, bootstrap over sums.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray
from sums import read_held_out

from fdt.data.batch import View
from fdt.data.tokenization import tokenize_prompt
from fdt.engines import HuggingFace
from fdt.policy.policy import Policy
from fdt.report.table import format_interval
from fdt.statistics.calibration import auroc
from fdt.statistics.intervals import compute_mean_interval, compute_paired_difference
from feedback.types import Message

OFF = (-10, -2, -1, 1, 2, 10)
WORDS = ("Yes", "No")


def make_questions(count: int) -> list[tuple[str, str, str]]:
    """Sums, each with its right answer and a near one."""
    rng = random.Random(0)
    found = []
    for expression, right in read_held_out(count):
        near = [int(right) + off for off in OFF if int(right) + off >= 0]
        found.append((expression, right, str(rng.choice(near))))
    return found


def compute_verdicts(policy: Policy, talks: list[list[Message]]) -> NDArray[np.float64]:
    """How much likelier "Yes" is than "No" as the next word of each conversation [n], nats."""
    found = []
    for word in WORDS:
        target = policy.tokenizer(word, add_special_tokens=False)["input_ids"][:1]
        contexts = [(tokenize_prompt(talk, policy.tokenizer), target) for talk in talks]
        parts = [
            policy.compute_log_probs(View.from_pairs(contexts[n : n + 32], policy.tokenizer.eos_token_id)).log_probs
            for n in range(0, len(contexts), 32)
        ]
        found.append(torch.cat(parts).float())
    return (found[0] - found[1]).double().numpy()


def ask_at_once(sum_: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": f"What is {sum_}? Somebody answered {answer}. Is that right? Say Yes or No."}]


def ask_after_reasoning(sum_: str, answer: str, thought: str) -> list[Message]:
    return [
        {"role": "user", "content": f"What is {sum_}?"},
        {"role": "assistant", "content": thought},
        {"role": "user", "content": f"Somebody answered {answer}. Is that right? Say Yes or No."},
    ]


def format_line(
    name: str, right: NDArray[np.float64], wrong: NDArray[np.float64], before: NDArray[np.float64] | None
) -> str:
    """One row of the table."""
    won = compute_wins(right, wrong)
    area = auroc(1 / (1 + np.exp(-np.concatenate([right, wrong]))), np.repeat([1.0, 0.0], len(right)))
    change = "" if before is None else format_interval(compute_paired_difference(before, won), 100, "+.1f")
    return f"| {name} | {format_interval(compute_mean_interval(won), 100, '.1f')} | {change} | {area:.3f} |"


def compute_wins(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each pair 1 where the right answer scores higher, 0.5 for equals, else 0."""
    return (right > wrong) + 0.5 * (right == wrong)


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--sums", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of reasoning")
    args = parser.parse_args()
    policy = Policy(args.model).eval()
    given = make_questions(args.sums)
    prompts = [
        tokenize_prompt([{"role": "user", "content": f"What is {sum_}?"}], policy.tokenizer) for sum_, _, _ in given
    ]
    drawn = HuggingFace(args.tokens).generate(policy, prompts, None)
    thoughts = [policy.tokenizer.decode(list(one.ids), skip_special_tokens=True).strip() for one in drawn]
    direct = [compute_verdicts(policy, [ask_at_once(row[0], row[place]) for row in given]) for place in (1, 2)]
    later = [
        compute_verdicts(
            policy,
            [ask_after_reasoning(row[0], row[place], thought) for row, thought in zip(given, thoughts, strict=True)],
        )
        for place in (1, 2)
    ]
    named = [row[1] in thought for row, thought in zip(given, thoughts, strict=True)]
    print(f"{len(given)} sums; the judge's own reasoning holds the right answer in {100 * np.mean(named):.1f} %\n")
    print("| judge | pairs, % | change, points | AUROC |\n|---|--:|--:|--:|")
    print(format_line("at once", *direct, None))
    print(format_line("after reasoning", *later, compute_wins(*direct)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
