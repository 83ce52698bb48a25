"""Memory, tokens, traffic and time of one step, from a model's shape and a run's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fdt.cli.plan.rates import Rates
from fdt.cli.plan.settings import RunSettings
from fdt.cli.plan.shape import ModelShape
from fdt.policy.products.frozen_linear import LARGEST
from objectives.vocabulary.products import ELEMENTS

KEPT = 0.6
"""Of a CPU's activations, what glibc keeps after they were freed, since blocks of many sizes leave holes. Fitted to six
runs in float32; with MALLOC_MMAP_THRESHOLD_=1048576 in the environment one of them took 1.88 GB instead of 2.44."""


@dataclass(frozen=True)
class Workload:
    """What one step reads, over all ranks."""

    prompt_tokens: int
    """Of one prompt."""
    answer_tokens: int
    """Of one answer."""
    hinted_share: float | None = None
    """Share of the answers that a teacher reads under a hint; None: not known, all are counted."""
    hint_tokens: int = 64
    imitated_share: float | None = None
    """Share of the answers with a correction that is imitated; None: not known."""

    @property
    def hinted(self) -> float:
        """The share of hinted answers that is counted."""
        return 1.0 if self.hinted_share is None else self.hinted_share

    @property
    def imitated(self) -> float:
        """The share of answers whose correction is imitated, as far as terms read it."""
        return 1.0 if self.imitated_share is None else self.imitated_share


@dataclass(frozen=True)
class Measured:
    """A step as it ran, or the line on which it lies."""

    seconds: float
    generate: float
    """Seconds of it in which answers are written."""


@dataclass(frozen=True)
class Estimate:
    """One step."""

    memory: dict[str, float]
    """Bytes on each rank, by part."""
    peaks: dict[str, float]
    """Bytes on each rank while it trains, and while it generates."""
    tokens: dict[str, float]
    """Tokens of a step over all ranks, by reader."""
    traffic: dict[str, float]
    """Bytes that a rank receives in a step, by cause."""
    seconds: dict[str, float]
    """Seconds of a step, by part."""


def estimate(shape: ModelShape, settings: RunSettings, load: Workload, rates: Rates, link: float) -> Estimate:
    """
    Args:
        link: bytes a second between ranks; 0 leaves their time out.
    """
    tokens = count_tokens(settings, load)
    memory, peaks = estimate_memory(shape, settings, load)
    traffic = estimate_traffic(shape, settings, tokens, load)
    update = estimate_update(shape, settings, tokens, load, rates) / settings.ranks
    update += estimate_rereading(shape, settings, tokens, load, rates)
    update += estimate_swaps(shape, settings, tokens, rates)
    rows = -(-settings.rows // settings.ranks)
    generate = load.answer_tokens * rates.decode(rows) if settings.on_policy else 0.0
    if generate:  # a prompt is read once for all of its answers
        read = settings.prompts / settings.ranks * load.prompt_tokens
        generate += shape.layers * read * rates.forward
    send = sum(traffic.values()) / link if link else 0.0
    step = max(generate, update + send) if settings.overlaps else generate + update + send
    seconds = {"generate": generate, "update": update, "communication": send, "step": step}
    return Estimate(memory, peaks, tokens, traffic, seconds)


def estimate_measured(shape: ModelShape, settings: RunSettings, load: Workload, measured: Measured) -> Estimate:
    """The same with the time of a step as it was measured."""
    tokens = count_tokens(settings, load)
    memory, peaks = estimate_memory(shape, settings, load)
    update = measured.seconds - measured.generate
    step = max(measured.generate, update) if settings.overlaps else measured.seconds
    seconds = {"generate": measured.generate, "update and communication": update, "step": step}
    return Estimate(memory, peaks, tokens, estimate_traffic(shape, settings, tokens, load), seconds)


def count_tokens(settings: RunSettings, load: Workload) -> dict[str, float]:
    """Tokens by reader. A prompt is read once where answers to it are packed, which the token budget allows or not."""
    row = load.prompt_tokens + load.answer_tokens
    hinted = row + load.hint_tokens
    per_prompt = settings.rows // max(settings.prompts, 1)
    alone = settings.tokens_per_microbatch // max(1, row + hinted) < 2 or per_prompt < 2
    shared = min(per_prompt, max(1, settings.tokens_per_microbatch // max(1, row + hinted)))
    student = settings.rows * (row if alone else load.prompt_tokens / shared + load.answer_tokens)
    student += settings.rows * (load.imitated_share or 0.0) * row  # corrections are rows of their own
    return {
        "generated": float(settings.rows * load.answer_tokens if settings.on_policy else 0),
        "student": float(student),
        "start": float(student * settings.start_share),
        "teacher": float(settings.rows * load.hinted * hinted),
        "targets": float(settings.rows * load.answer_tokens),
        "transcripts": float(min(settings.reread_rows * settings.ranks, settings.rows) * row * settings.reread_share),
    }


def estimate_memory(
    shape: ModelShape, settings: RunSettings, load: Workload
) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes by part, and the peaks."""
    split = settings.ranks if settings.sharded else 1
    element = shape.base_dtype.itemsize
    copy = shape.trainable_bytes / split
    terms = count_backward_passes(settings, load)
    moments = {"SGD": 0, "SignalAdamW": 2 * terms}.get(settings.optimizer, 2)
    gradients = (terms if settings.optimizer == "SignalAdamW" else 0) + 1
    computed = 2 if element == 2 or "bf16" in settings.precision else 4
    root = element * shape.embedding_parameters
    layer = element * shape.layer_parameters / shape.layers
    counted = count_tokens(settings, load)
    batch = min(settings.tokens_per_microbatch, counted["student"] / settings.ranks)
    targets = batch * counted["targets"] / counted["student"]
    saved = batch * shape.saved_bytes
    kept = saved if settings.gradient_checkpointing else saved * shape.layers
    if settings.gradient_checkpointing:
        kept += batch * shape.width * computed * shape.layers
    memory = {
        "weights": ((shape.parameters - shape.trainable) * element + shape.trainable_bytes) / split,
        "gradients": gradients * copy,
        "optimiser": moments * copy,
        "start and teacher": (1 + (settings.teacher == "EMA")) * copy,
        "swap of weights": copy if split > 1 else 0.0,  # else weights and copies change places
        "gathered": root + 2 * layer + (root + layer if not shape.adapter_parameters else 0) if split > 1 else 0.0,
        "activations": kept,
        "head": 4.0 * 4 * min(ELEMENTS, targets * shape.vocabulary),
        "freed, kept by the C library": KEPT * kept if settings.on_cpu else 0.0,
    }
    memory["weights laid out to generate"] = count_laid_out_bytes(shape, settings)
    rows = -(-settings.rows // settings.ranks)
    length = load.prompt_tokens + load.answer_tokens
    cache = rows * length * shape.layers * shape.kv_width * element if settings.engine == "HuggingFace" else 0
    whole = element * shape.parameters if split > 1 and settings.engine == "HuggingFace" else 0
    memory["key-value cache"] = float(cache)
    memory["weights whole to generate"] = float(whole)
    held = sum(memory[name] for name in ("weights", "optimiser", "start and teacher", "weights laid out to generate"))
    generating = held + cache + whole + 4.0 * rows * shape.vocabulary * 2
    return memory, {"training": sum(memory.values()) - cache - whole, "generating": generating}


def count_laid_out_bytes(shape: ModelShape, settings: RunSettings) -> float:
    """A CPU's second copy of frozen bfloat16 weights, which is kept where it is not too large."""
    size = 2.0 * (shape.layer_parameters + shape.head_parameters)
    writes = settings.on_cpu and settings.on_policy and settings.engine == "HuggingFace"
    copied = writes and shape.adapter_parameters and shape.base_dtype.itemsize == 2 and size <= LARGEST
    return size if copied else 0.0


def estimate_traffic(
    shape: ModelShape, settings: RunSettings, tokens: dict[str, float], load: Workload
) -> dict[str, float]:
    """Bytes that one rank receives in a step; rings and trees move (n - 1) / n of what is gathered or reduced."""
    if settings.ranks == 1:
        return {}
    part = (settings.ranks - 1) / settings.ranks
    passes = count_backward_passes(settings, load)
    if not settings.sharded:
        return {"gradients": passes * 2 * part * shape.trainable_bytes}
    read = tokens["student"] + tokens["teacher"]
    batches = max(1.0, -(-read // settings.ranks) / settings.tokens_per_microbatch)
    whole = part * shape.base_dtype.itemsize * shape.parameters
    reads = 1 + passes + (tokens["start"] > 0) + (tokens["teacher"] > 0)
    root = part * shape.base_dtype.itemsize * shape.embedding_parameters * (passes - 1)  # stays between passes
    return {
        "weights gathered": batches * (reads * whole - root)
        + settings.reread_share * (settings.reread_rows > 0) * whole,
        "gradients": passes * batches * part * shape.trainable_bytes,
        "weights to generate": whole * settings.on_policy,
    }


def count_backward_passes(settings: RunSettings, load: Workload) -> int:
    """One; with moments for each term one for each that has tokens, as far as is known which have."""
    if settings.optimizer != "SignalAdamW":
        return 1
    absent = {"Distill"} if load.hinted_share == 0 else set()
    absent |= {"KLAnchor"} if load.hinted_share == 1 else set()  # it holds what no critique reaches
    absent |= {"Imitate"} if load.imitated_share == 0 else set()
    return max(1, sum(term not in absent for term in settings.terms))


def count_microbatches(settings: RunSettings, tokens: dict[str, float]) -> int:
    """Of a step, over all ranks: the budget holds for student and teacher each."""
    read = max(tokens["student"], tokens["teacher"])
    return settings.ranks * max(1, math.ceil(read / settings.ranks / settings.tokens_per_microbatch))


def estimate_rereading(
    shape: ModelShape, settings: RunSettings, tokens: dict[str, float], load: Workload, rates: Rates
) -> float:
    """Seconds in which a rank reads some rows once more after the update, for the transcripts."""
    read = tokens["transcripts"] / settings.ranks
    if not read:
        return 0.0
    targets = read * load.answer_tokens / (load.prompt_tokens + load.answer_tokens)
    return shape.layers * read * rates.forward + targets * rates.head_forward


def estimate_swaps(shape: ModelShape, settings: RunSettings, tokens: dict[str, float], rates: Rates) -> float:
    """Seconds in which a rank's shards change places with the start's and the teacher's, in each micro-batch."""
    if not settings.sharded:
        return 0.0
    batches = count_microbatches(settings, tokens) / settings.ranks
    return batches * count_other_reads(tokens) * shape.trainable / settings.ranks * rates.copy


def count_other_reads(tokens: dict[str, float]) -> float:
    """Forwards of a micro-batch beside the policy's own, by the start and by the teacher."""
    return tokens["start"] / tokens["student"] + (tokens["teacher"] > 0)


def estimate_update(
    shape: ModelShape, settings: RunSettings, tokens: dict[str, float], load: Workload, rates: Rates
) -> float:
    """Seconds of one rank that does all of the update."""
    passes = count_backward_passes(settings, load)
    read = tokens["start"] + tokens["teacher"]
    train = rates.train + (passes - 1) * (rates.train - rates.forward)
    layers = shape.layers * (tokens["student"] * train + read * rates.forward)
    compared = tokens["targets"] * (tokens["start"] / tokens["student"] + load.hinted)
    # A frozen head's gradient is found in the forward pass, once for all terms.
    again = 0.0 if shape.adapter_parameters else (passes - 1) * (rates.head_train - rates.head_forward)
    optimised = shape.trainable * rates.optimise * (1 if settings.sharded else settings.ranks)  # DDP: all of it on each
    return layers + tokens["targets"] * (rates.head_train + again) + compared * rates.head_forward + optimised
