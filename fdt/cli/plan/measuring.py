"""How fast this machine computes: a model of some layers of a config's shape reads, learns and writes as in a run."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from fdt.cli.plan.clock import ROUNDS, read_clock, run_beside, time_call
from fdt.cli.plan.estimate import Workload, count_backward_passes, count_tokens
from fdt.cli.plan.rates import Rates
from fdt.cli.plan.settings import RunSettings
from fdt.cli.plan.shape import ModelShape, build_on, load_config
from fdt.engines.decode.check import can_decode
from fdt.engines.decode.loop import DecodeBatch
from fdt.policy.lora import LoRA
from fdt.policy.optimizers import SignalAdamW
from fdt.policy.products.adapted_linear import cast_factors, find_linear_adapters
from fdt.policy.products.frozen_linear import FrozenProducts
from fdt.policy.products.grouped_attention import use_grouped_attention
from objectives import TokenLogProbs
from objectives.vocabulary.products import ELEMENTS

LAYERS = 3
"""Least layers of the model that is measured."""
WEIGHTS = 2**28
"""Bytes of weights that the measured layers have, where the model has as many: several times what a processor's caches
hold, so that they come from memory as in a run."""
MOST_TOKENS = 1024
"""Tokens of the largest batch that is measured: a larger one takes as long for each."""
FEW_TOKENS = 16
"""Tokens of the smallest: what it takes beyond these is what a pass takes whatever its tokens."""
MOST_ROWS = 32
STEPS = 8
"""Decoding steps that are timed."""
COPIED = 2**24
"""Numbers that are copied to time it: 64 MiB."""


def measure_rates(shape: ModelShape, settings: RunSettings, load: Workload) -> Rates:
    """Times decoder layers, the head and the optimiser on this machine, at the sizes of a run's batches.

    Ranks of one machine share its memory: as many processes as there would be in a run measure at once.
    """
    others = min(settings.devices, os.cpu_count() or 1) - 1
    with run_beside(others, _measure, shape, settings, load):
        return _measure(shape, settings, load)


def _measure(shape: ModelShape, settings: RunSettings, load: Workload) -> Rates:
    layers = choose_layers(shape)
    model, causal = _build(shape, settings, layers)
    decoder = causal.get_decoder()
    rows = -(-settings.rows // settings.ranks)
    sizes = _choose_batches(settings, load)
    forward_pass, forward = _fit_line(lambda rows, length: _read(decoder, shape, rows, length, False), sizes)
    train_pass, train = _fit_line(lambda rows, length: _read(decoder, shape, rows, length, True), sizes)
    again = settings.gradient_checkpointing

    weight = causal.get_output_embeddings().weight
    tokens = max(1, min(rows * load.answer_tokens, ELEMENTS // shape.vocabulary))
    hidden = torch.randn(tokens, shape.width, dtype=shape.base_dtype)
    targets = torch.randint(0, shape.vocabulary, (tokens,))
    return Rates(
        forward=forward / layers,
        train=(train + forward * again) / layers,
        head_forward=time_call(lambda: _score(weight, hidden, targets, False)) / tokens,
        head_train=time_call(lambda: _score(weight, hidden, targets, True)) / tokens,
        optimise=measure_optimiser(model, count_backward_passes(settings, load), settings.optimizer),
        decode=_measure_decoding(shape, settings, load, rows),
        forward_pass=forward_pass / layers,
        train_pass=(train_pass + forward_pass * again) / layers,
        copy=_measure_copies() if settings.sharded else 0.0,
    )


def choose_layers(shape: ModelShape) -> int:
    """How many layers are measured: as many as fill `WEIGHTS`."""
    size = shape.base_dtype.itemsize * shape.layer_parameters / shape.layers
    return min(shape.layers, max(LAYERS, math.ceil(WEIGHTS / size)))


def _choose_batches(settings: RunSettings, load: Workload) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and tokens of each: of few tokens, and of as many as a rank's micro-batch has."""
    length = load.prompt_tokens + load.answer_tokens
    read = count_tokens(settings, load)["student"] / settings.ranks
    most = min(read, settings.tokens_per_microbatch, MOST_TOKENS)
    return (1, min(FEW_TOKENS, length)), (max(1, round(most / length)), length)


def _fit_line(call: Callable[[int, int], None], sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Seconds of a call whatever its tokens, and for each of them, from calls of few and of many."""
    (few, short), (many, long) = ((rows * length, time_call(partial(call, rows, length))) for rows, length in sizes)
    if many < 2 * few:
        return 0.0, long / many
    each = max(0.0, long - short) / (many - few)
    once = min(long, max(0.0, short - few * each))  # a moment that was held up must not make tokens gain time
    return once, (long - once) / many


def _build(shape: ModelShape, settings: RunSettings, layers: int) -> tuple[Any, Any]:
    """A model of so many layers with its adapters, and the causal LM in it."""
    config = copy.deepcopy(load_config(settings.base))
    config.get_text_config().num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    lora = None if settings.lora is None else replace(LoRA(**settings.lora), layers=None)
    model: Any = build_on(torch.device("cpu"), config, lora, shape.base_dtype)
    causal: Any = model if lora is None else model.get_base_model()
    use_grouped_attention(causal)
    return model, causal


def _read(decoder: Any, shape: ModelShape, rows: int, length: int, gradient: bool) -> None:
    given = torch.randn(rows, length, shape.width, dtype=shape.base_dtype).requires_grad_(gradient)
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


def measure_optimiser(model: Any, terms: int, kind: str) -> float:
    """Seconds for one trained number: its gradient's norm and scale, and the step of AdamW, or with moments for each
    term of all of these."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if kind == "SignalAdamW":
        apart = SignalAdamW(weights, lr=1e-6)
        gradients = {str(term): [torch.ones_like(weight) for weight in weights] for term in range(terms)}
        return time_call(lambda: apart.step(gradients=gradients)) / sum(p.numel() for p in weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW(weights, lr=1e-6)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    return time_call(step) / sum(p.numel() for p in weights)


def _measure_copies() -> float:
    """Seconds for one number that changes places with another's: kept, written over, and written back."""
    weight, other = torch.randn(COPIED), torch.randn(COPIED)

    def swap() -> None:
        kept = weight.clone()
        weight.copy_(other)
        weight.copy_(kept)

    return time_call(swap) / COPIED


def _measure_decoding(shape: ModelShape, settings: RunSettings, load: Workload, rows: int) -> Callable[[int], float]:
    """Seconds of a decoding step by the number of answers, from models of one layer and of several."""
    layers = choose_layers(shape)
    sizes = sorted({1, min(rows, MOST_ROWS)})
    context = min(MOST_TOKENS, load.prompt_tokens + load.answer_tokens // 2)
    models = [_build(shape, settings, number) for number in ((layers,) if layers == shape.layers else (layers, 1))]
    found = {}
    for size in sizes:
        whole, *single = (_time_decoding(*pair, size, context) for pair in models)
        layer = max(0.0, whole - single[0]) / (layers - 1) if single else 0.0
        found[size] = whole + (shape.layers - layers) * layer
    alone, most = found[sizes[0]], found[sizes[-1]]
    slope = max(0.0, most - alone) / max(1, sizes[-1] - 1)
    return lambda batch: alone + slope * (batch - 1)


def _time_decoding(model: Any, causal: Any, rows: int, context: int) -> float:
    """Seconds of a step of the loop that writes answers."""
    causal.eval()
    prompt = torch.randint(1, causal.config.get_text_config().vocab_size, (context,)).tolist()
    with _prepare(model, causal), torch.no_grad():
        if not can_decode(causal):  # transformers writes for such a model; the cache is left out
            return time_call(lambda: causal(torch.ones(rows, 1, dtype=torch.long), use_cache=False))
        return min(_time_steps(causal, rows, prompt) for _ in range(ROUNDS))


def _time_steps(causal: Any, rows: int, prompt: list[int]) -> float:
    """Seconds of a step, the mean over some; each draws once, and the first reads the prompt before."""
    moments: list[float] = []

    def draw(step: int) -> torch.Tensor:
        moments.append(read_clock())
        return torch.rand(rows)

    # Token 0 ends an answer: a random model draws it once in a vocabulary.
    DecodeBatch(causal, [prompt] * rows, [2 + STEPS] * rows, [0], draw).decode()
    return (moments[-1] - moments[1]) / max(1, len(moments) - 2)


@contextmanager
def _prepare(model: Any, causal: Any) -> Iterator[None]:
    """As `Policy.prepare_decoding`."""
    with FrozenProducts().use(causal, find_linear_adapters(model)), cast_factors(model):
        yield
