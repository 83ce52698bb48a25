"""How much of what a device can multiply an update uses: its arithmetic by count, beside a measured product."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from fdt.data.batch import Batch, View, build_untrained_rollouts
from fdt.data.microbatch import split_batch
from fdt.data.packing import lay_out_batch
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from objectives import Objective, PolicyGradient
from versus.models import Shape


@dataclass(frozen=True)
class Update:
    """One update: seconds, tokens, floating-point operations, peak bytes."""

    seconds: float
    tokens: int
    flop: float
    peak: int


def wait(device: str) -> float:
    """The time, once the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_ceiling(device: str, size: int, dtype: torch.dtype, repeats: int = 5) -> float:
    """Operations a second of the largest product that a device makes well: ``[size, size]`` squared."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    a @ a
    began = wait(device)
    for _ in range(repeats):
        a @ a
    return repeats * 2 * size**3 / (wait(device) - began)


def count_flop(shape: Shape, tokens: int, targets: int, width: int) -> float:
    """Of a forward and a backward under adapters: two products a weight forward, and two for the gradient of what it
    read; frozen weights take none of their own. Causal attention counts half its square; adapters and what is computed
    again under checkpointing count nothing. The head is read once forward and once backward for target tokens.
    """
    attention = shape.width * shape.head_width * (2 * shape.heads + 2 * shape.key_heads)
    weights = shape.layers * (attention + 3 * shape.width * shape.inner)
    scores = shape.layers * 2 * shape.heads * shape.head_width * width * tokens
    return 4 * weights * tokens + 3 * scores + 4 * shape.vocabulary * shape.width * targets


def measure_update(
    folder: str, shape: Shape, rows: int, prompt: int, answer: int, device: str, budget: int, checkpointing: bool
) -> Update:
    """Forward and backward of a policy gradient on rows of random tokens, as `Learner.training_step` makes them; the
    second of two.

    Args:
        folder: the model.
        shape: its sizes.
        rows: rows of the update, all with prompts of their own.
        prompt, answer: tokens of each.
        device: cpu or cuda.
        budget: most tokens of one forward.
        checkpointing: whether activations are recomputed.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    policy = Policy(folder, LoRA(rank=16), "bfloat16", checkpointing).to(device).train()
    ids = torch.randint(3, min(shape.vocabulary, 500), (rows, prompt + answer))
    view = View.from_pairs([(row[:prompt].tolist(), row[prompt:].tolist()) for row in ids])
    rollouts = build_untrained_rollouts(view.counts)
    sampled = torch.ones(rows * answer, dtype=torch.bool)
    rollouts = replace(rollouts, advantages=torch.randn(rows)[rollouts.episode], masks={"sampled": sampled})
    objective = Objective({"policy": PolicyGradient()})
    rollouts = replace(rollouts, weights=objective.weigh(rollouts))
    batch = Batch(student=view, rollouts=replace(rollouts, totals=objective.compute_totals(rollouts)))
    seconds = 0.0
    for _ in range(2):  # the first one allocates
        began = wait(device)
        for part in split_batch(batch, budget, policy.packs):
            moved = lay_out_batch(part, policy.packs).to(device)
            objective(policy.compute_log_probs(moved.student), {}, moved.rollouts).value.backward()
        seconds = wait(device) - began
    tokens = rows * (prompt + answer)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return Update(seconds, tokens, count_flop(shape, tokens, rows * answer, prompt + answer), peak)
