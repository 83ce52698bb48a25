"""How fast a machine computes, and what kinds of cards are known for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fdt.cli.plan.settings import RunSettings
from fdt.cli.plan.shape import ModelShape

USE = 0.4
"""Share of a card's peak that training reaches on matrices of this size."""
STEP_BYTES = 40
"""What an optimiser like AdamW moves for one trained number: it reads weight, gradient and two moments, writes all but
the gradient, and the gradient is measured and scaled before."""

SWAP_BYTES = 3 * 8
"""What is moved for a number that is kept, written over and written back: each of the three reads and writes it."""


@dataclass(frozen=True)
class Card:
    """A kind of GPU, from its data sheet."""

    memory: float
    """GB."""
    flops: float
    """Dense bfloat16, in TFLOP/s."""
    bandwidth: float
    """Memory, in GB/s."""
    link: float
    """To the other cards of its machine, in GB/s each way."""


CARDS = {
    "h200": Card(141, 989, 4800, 450),
    "h100": Card(80, 989, 3350, 450),
    "a100-80": Card(80, 312, 2039, 300),
    "l40s": Card(48, 362, 864, 32),
    "rtx4090": Card(24, 165, 1008, 32),
}


@dataclass(frozen=True)
class Rates:
    """Seconds for one token, unless said otherwise."""

    forward: float
    """Through one decoder layer, without gradient."""
    train: float
    """Forward and backward through one decoder layer."""
    head_forward: float
    """Log-prob from the head's product, without gradient."""
    head_train: float
    """Log-prob and entropy from the head, forward and backward."""
    decode: Callable[[int], float]
    """Seconds of one decoding step of all layers, by the number of answers decoded together."""
    optimise: float
    """Seconds of the optimiser for one trained number."""
    copy: float = 0.0
    """Seconds for one number of a shard that changes places with the start's or the teacher's, and back."""


def rate_card(shape: ModelShape, settings: RunSettings, card: Card, terms: int = 1) -> Rates:
    """What a card's data sheet lets expect; `terms`: how many have moments of their own."""
    full = shape.base_dtype == torch.float32 and "bf16" not in settings.precision
    flops = card.flops * 1e12 * USE / (8 if full else 1)  # float32 without TF32
    layer = 2 * shape.layer_parameters / shape.layers / flops
    head = 2 * shape.head_parameters / flops
    backward = 1.0 if shape.adapter_parameters else 2.0
    element = 2 if shape.base_dtype == torch.bfloat16 or "bf16" in settings.precision else 4
    again = 1.0 if settings.gradient_checkpointing else 0.0

    def decode(batch: int) -> float:
        reads = element * (shape.layer_parameters + shape.head_parameters) / (card.bandwidth * 1e9)
        return max(reads, batch * (layer * shape.layers + head))

    optimise = terms * STEP_BYTES / (card.bandwidth * 1e9)
    copies = SWAP_BYTES / (card.bandwidth * 1e9)
    return Rates(layer, layer * (1 + backward + again), head, 4 * head, decode, optimise, copy=copies)
