"""How fast a machine computes: measured here on one decoder layer, or what a kind of card is known for."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fdt.cli.plan.settings import RunSettings
from fdt.cli.plan.shape import ModelShape, build_on, load_config
from fdt.policy.lora import LoRA
from objectives import TokenLogProbs

USE = 0.4
"""Share of a card's peak that training reaches on matrices of this size."""
MEASURED_TOKENS = 1024
ROUNDS = 3


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
    """Seconds for one token."""

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


def rate_card(shape: ModelShape, settings: RunSettings, card: Card) -> Rates:
    """What a card's data sheet lets expect."""
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

    return Rates(layer, layer * (1 + backward + again), head, 4 * head, decode)


def measure_rates(shape: ModelShape, settings: RunSettings) -> Rates:
    """Times one decoder layer of this shape, and the head, on this machine."""
    config = copy.deepcopy(load_config(settings.base))
    config.get_text_config().num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    lora = None if settings.lora is None else LoRA(**{**settings.lora, "layers": None})
    model: Any = build_on(torch.device("cpu"), config, lora, shape.base_dtype)
    causal: Any = model if lora is None else model.get_base_model()
    decoder = causal.get_decoder()
    states = torch.randn(1, MEASURED_TOKENS, shape.width, dtype=shape.base_dtype)

    weight = causal.get_output_embeddings().weight
    tokens = MEASURED_TOKENS // 4
    hidden, targets = states[0, :tokens], torch.randint(0, shape.vocabulary, (tokens,))
    head = _time(lambda: _score(weight, hidden, targets, False)) / tokens
    layer = _time(lambda: _read(decoder, states, False)) / MEASURED_TOKENS
    steps = {batch: _time(lambda b=batch: _decode(decoder, shape, b)) for batch in (1, 16)}  # type: ignore[misc]

    def decode(batch: int) -> float:
        per_answer = max(0.0, (steps[16] - steps[1]) / 15)
        return shape.layers * (steps[1] + (batch - 1) * per_answer) + batch * head

    train = _time(lambda: _read(decoder, states, True)) / MEASURED_TOKENS
    train += layer if settings.gradient_checkpointing else 0.0
    return Rates(layer, train, head, _time(lambda: _score(weight, hidden, targets, True)) / tokens, decode)


def _read(decoder: Any, states: torch.Tensor, gradient: bool) -> None:
    given = states.clone().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        out = decoder(inputs_embeds=given, use_cache=False).last_hidden_state
    if gradient:
        out.float().sum().backward()


def _score(weight: torch.Tensor, hidden: torch.Tensor, targets: torch.Tensor, gradient: bool) -> None:
    given = hidden.clone().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        found = TokenLogProbs(given, weight if weight.requires_grad else weight.detach(), targets)
        values = found.log_probs
    if gradient:
        _ = found.entropy
        values.sum().backward()


def _decode(decoder: Any, shape: ModelShape, batch: int) -> None:
    with torch.no_grad():
        decoder(inputs_embeds=torch.zeros(batch, 1, shape.width, dtype=shape.base_dtype), use_cache=False)


def _time(call: Callable[[], None]) -> float:
    """Seconds of a call, the shortest of a few: whatever else the machine does only adds."""
    found = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found[1:])
