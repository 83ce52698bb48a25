"""A pack's forward and backward pass under one mask, and in parts without it, in alternation: CPU time and equality.

python benchmarks/packs.py                                   # SmolLM2, float32, one thread, three runs of each
python benchmarks/packs.py --packs 256x256x8 1024x256x4      # prompt x longest answer x answers
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fdt.data.batch import View  # noqa: E402
from fdt.policy.policy import Policy  # noqa: E402
from fdt.policy.products import packed_attention  # noqa: E402

NEVER = 10**9


def build_view(context: int, longest: int, answers: int) -> View:
    """Answers of half the longest to the longest to one prompt, of random tokens."""
    chance = random.Random(0)

    def draw(count: int) -> list[int]:
        return [chance.randrange(5, 4000) for _ in range(count)]

    prompt = draw(context)
    return View.from_pairs([(prompt, draw(chance.randint(longest // 2, longest))) for _ in range(answers)])


def run_once(policy: Policy, view: View, least: int) -> tuple[Tensor, float]:
    """Log-probs, and the CPU seconds of both passes."""
    packed_attention.LEAST = least
    began = time.process_time()
    log_probs = policy.compute_log_probs(view).log_probs
    log_probs.sum().backward()
    policy.zero_grad()
    return log_probs.detach(), time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--packs", nargs="+", default=["44x32x4", "200x64x4", "512x128x4", "256x256x8"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy(args.model, lora=None, dtype="float32")
    print("| prompt x longest answer x answers | tokens | mask, CPU s | parts, CPU s | ratio | largest difference |")
    print("|---|--:|--:|--:|--:|--:|")
    for size in args.packs:
        view = build_view(*map(int, size.split("x")))
        run_once(policy, view, NEVER)  # the first run of a shape pays for memory
        pairs = [(run_once(policy, view, NEVER), run_once(policy, view, 0)) for _ in range(args.repeats)]
        masked, parts = (median(pair[side][1] for pair in pairs) for side in (0, 1))
        gap = max(float((one[0] - other[0]).abs().max()) for one, other in pairs)
        tokens = int(view.context_lengths[0] + (view.lengths - view.context_lengths).sum())
        print(f"| {size} | {tokens:,} | {masked:.2f} | {parts:.2f} | {parts / masked:.2f} | {gap:.1e} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
