"""Tokens a second of the engines on one model, and how far their log-probs are from the trainer's. Prints Markdown.

The engines take turns, so that what else the machine does meets all of them; medians over rounds, and the median of
each round's ratio to `dynamic`. One thread each (OMP_NUM_THREADS=1) unless the environment sets another number.

    python benchmarks/engines.py                                        # generate, and the loop of our own
    python benchmarks/engines.py --engines dynamic,static,paged --rounds 2 --batches 16
    FDT_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/engines.py --engines dynamic,vllm

own: fdt.engines.HuggingFace. dynamic, static: transformers' generate with that cache. paged: transformers'
continuous batching. vllm: fdt.engines.VLLMServer as it comes (on a CPU it compiles nothing), its start left out of
the times; vllm-compiled: the same with compilation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from fdt.data.batch import View
from fdt.data.tokenization import tokenize_prompt
from fdt.engines import Engine, HuggingFace, Sample, VLLMServer
from fdt.engines.huggingface import reset_generation_config, seed_rng
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy

Draw = Callable[[list[list[int]], int], list[Sample]]


def make_prompts(policy: Policy, count: int) -> list[list[int]]:
    """Prompts of 40 to 60 tokens that ask for more than an answer may hold."""
    texts = [
        f"Tell me a long story about the number {n} and its {n % 7} friends." + " Be kind." * (n % 5)
        for n in range(count)
    ]
    return [tokenize_prompt([{"role": "user", "content": text}], policy.tokenizer) for text in texts]


def make_draw(engine: Engine, policy: Policy, generate: Callable) -> Draw:
    """Draws with an engine, while transformers' `generate` is this one."""

    def draw(asked: list[list[int]], seed: int) -> list[Sample]:
        policy.causal.generate = generate
        return engine.generate(policy, asked, seed)

    return draw


def make_paged_draw(policy: Policy, tokens: int) -> Draw:
    """Draws with transformers' continuous batching."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    eos = policy.tokenizer.eos_token_id
    settings = GenerationConfig(
        do_sample=True, max_new_tokens=tokens, eos_token_id=eos, pad_token_id=eos, top_k=0, top_p=1.0
    )

    def draw(asked: list[list[int]], seed: int) -> list[Sample]:
        with torch.no_grad(), seed_rng(seed), reset_generation_config(policy.causal):
            found = policy.causal.generate_batch(
                asked, settings, ContinuousBatchingConfig(return_logprobs=True), progress_bar=False
            )
        return [Sample(tuple(one.generated_tokens), tuple(one.logprobs)) for one in found.values()]

    return draw


class Generate(HuggingFace):
    """Answers by ``transformers.generate``, where `HuggingFace` would use its own loop."""

    def _uses_own_loop(self, policy: Policy) -> bool:
        return False


def build_draws(names: list[str], policy: Policy, tokens: int) -> dict[str, Draw]:
    """How each of the named engines draws."""
    plain = policy.causal.generate
    hf = Generate(tokens)
    made = {
        "own": lambda: make_draw(HuggingFace(tokens), policy, plain),
        "dynamic": lambda: make_draw(hf, policy, plain),
        "static": lambda: make_draw(hf, policy, partial(plain, cache_implementation="static")),
        "paged": lambda: make_paged_draw(policy, tokens),
        "vllm": lambda: make_draw(VLLMServer(max_new_tokens=tokens, max_model_len=1024), policy, plain),
        "vllm-compiled": lambda: make_draw(
            VLLMServer(max_new_tokens=tokens, max_model_len=1024, arguments=["--no-enforce-eager"]), policy, plain
        ),
    }
    return {name: made[name]() for name in names}


@torch.no_grad()
def measure_gap(policy: Policy, prompts: list[list[int]], answers: list[Sample]) -> float:
    """Mean difference (nats) between the engine's log-probs and the trainer's, as `train/sampling/logp_difference`."""
    rows = [
        ([*prompt, *sample.ids], [False] * len(prompt) + [True] * len(sample.ids))
        for prompt, sample in zip(prompts[:16], answers[:16], strict=True)
    ]
    own = policy.compute_log_probs(View.from_masks(rows, policy.tokenizer.eos_token_id)).log_probs
    reported = torch.tensor([value for sample in answers[:16] for value in sample.log_probs])
    return (own.float() - reported).abs().mean().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="dynamic,own")
    parser.add_argument("--batches", default="16,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="most new tokens of an answer")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    policy = Policy(args.model, LoRA(), args.dtype).eval()
    with torch.no_grad():  # adapters that do something, as after some steps
        torch.manual_seed(0)
        for weight in policy.get_trainable_parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    draws = build_draws(args.engines.split(","), policy, args.tokens)
    for draw in draws.values():
        draw(make_prompts(policy, 2), 0)  # starts, compiles, allocates
    print(f"{args.model}, {policy.causal.dtype}, {torch.get_num_threads()} thread(s), {args.rounds} rounds\n")
    print("| Prompts | Engine | Tokens a second, median (range) | Ratio to dynamic, median (range) | Gap, nats |")
    print("|---|---|---|---|---|", flush=True)
    for batch in map(int, args.batches.split(",")):
        prompts = make_prompts(policy, batch)
        speeds: dict[str, list[float]] = {name: [] for name in draws}
        gaps: dict[str, float] = {}
        for number in range(args.rounds):
            for name, draw in draws.items():
                began = time.perf_counter()
                answers = draw(prompts, number)
                speeds[name].append(sum(len(sample.ids) for sample in answers) / (time.perf_counter() - began))
                gaps[name] = measure_gap(policy, prompts, answers) if name != "paged" else float("nan")
        for name, found in speeds.items():
            ratios = [own / other for own, other in zip(found, speeds["dynamic"], strict=True)]
            print(
                f"| {batch} | {name} | {statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f}) "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {gaps[name]:.4f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
