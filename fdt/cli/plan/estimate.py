"""Memory, tokens, traffic and time of one step, from a model's shape and a run's settings."""

from __future__ import annotations

from dataclasses import dataclass

from fdt.cli.plan.rates import Rates
from fdt.cli.plan.settings import RunSettings
from fdt.cli.plan.shape import ModelShape
from objectives.vocabulary.products import ELEMENTS


@dataclass(frozen=True)
class Workload:
    """What one step reads, over all ranks."""

    prompt_tokens: int
    """Of one prompt."""
    answer_tokens: int
    """Of one answer."""
    hinted_share: float = 1.0
    """Share of the answers that a teacher reads under a hint."""
    hint_tokens: int = 64


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
    traffic = estimate_traffic(shape, settings, tokens)
    update = estimate_update(shape, tokens, rates) / settings.ranks
    rows = -(-settings.rows // settings.ranks)
    generate = load.answer_tokens * rates.decode(rows) if settings.on_policy else 0.0
    if generate:
        generate += rows * load.prompt_tokens * rates.forward * shape.layers
    send = sum(traffic.values()) / link if link else 0.0
    step = max(generate, update + send) if settings.overlaps else generate + update + send
    seconds = {"generate": generate, "update": update, "communication": send, "step": step}
    return Estimate(memory, peaks, tokens, traffic, seconds)


def count_tokens(settings: RunSettings, load: Workload) -> dict[str, float]:
    """Tokens by reader. A prompt is read once where answers to it are packed, which the token budget allows or not."""
    row = load.prompt_tokens + load.answer_tokens
    hinted = row + load.hint_tokens
    per_prompt = settings.rows // max(settings.prompts, 1)
    alone = settings.tokens_per_microbatch // max(1, row + hinted) < 2 or per_prompt < 2
    shared = min(per_prompt, max(1, settings.tokens_per_microbatch // max(1, row + hinted)))
    student = settings.rows * (row if alone else load.prompt_tokens / shared + load.answer_tokens)
    return {
        "generated": float(settings.rows * load.answer_tokens if settings.on_policy else 0),
        "student": float(student),
        "start": float(student if settings.reads_start else 0),
        "teacher": float(settings.rows * load.hinted_share * hinted),
        "targets": float(settings.rows * load.answer_tokens),
    }


def estimate_memory(
    shape: ModelShape, settings: RunSettings, load: Workload
) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes by part, and the peaks."""
    split = settings.ranks if settings.sharded else 1
    element = shape.base_dtype.itemsize
    frozen = shape.parameters - shape.trainable
    copy = shape.trainable_bytes / split
    moments = {"SGD": 0, "SignalAdamW": 2 * settings.terms}.get(settings.optimizer, 2)
    gradients = (settings.terms if settings.optimizer == "SignalAdamW" else 0) + 1
    computed = 2 if element == 2 or "bf16" in settings.precision else 4
    root = element * shape.embedding_parameters
    layer = element * shape.layer_parameters / shape.layers
    batch = min(settings.tokens_per_microbatch, _count_rank_tokens(settings, load))
    saved = batch * shape.saved_bytes
    kept = saved if settings.gradient_checkpointing else saved * shape.layers
    if settings.gradient_checkpointing:
        kept += batch * shape.width * computed * shape.layers
    memory = {
        "weights": (frozen * element + shape.trainable_bytes) / split,
        "gradients": gradients * copy,
        "optimiser": moments * copy,
        "start and teacher": (1 + (settings.teacher == "EMA")) * copy,
        "swap of weights": copy,
        "gathered": root + 2 * layer + (root + layer if not shape.adapter_parameters else 0) if split > 1 else 0.0,
        "activations": kept,
        "head": 4.0 * 4 * min(ELEMENTS, batch * shape.vocabulary),
    }
    rows = -(-settings.rows // settings.ranks)
    length = load.prompt_tokens + load.answer_tokens
    cache = rows * length * shape.layers * shape.kv_width * element if settings.engine == "HuggingFace" else 0
    whole = element * shape.parameters if split > 1 and settings.engine == "HuggingFace" else 0
    memory["key-value cache"] = float(cache)
    memory["weights whole to generate"] = float(whole)
    held = sum(memory[name] for name in ("weights", "optimiser", "start and teacher"))
    generating = held + cache + whole + 4.0 * rows * shape.vocabulary * 2
    return memory, {"training": sum(memory.values()) - cache - whole, "generating": generating}


def _count_rank_tokens(settings: RunSettings, load: Workload) -> float:
    rows = -(-settings.rows // settings.ranks)
    return rows * (load.prompt_tokens + load.answer_tokens)


def estimate_traffic(shape: ModelShape, settings: RunSettings, tokens: dict[str, float]) -> dict[str, float]:
    """Bytes that one rank receives in a step; rings and trees move (n - 1) / n of what is gathered or reduced."""
    if settings.ranks == 1:
        return {}
    part = (settings.ranks - 1) / settings.ranks
    if not settings.sharded:
        return {"gradients": 2 * part * shape.trainable_bytes}
    read = tokens["student"] + tokens["teacher"]
    batches = max(1.0, -(-read // settings.ranks) / settings.tokens_per_microbatch)
    whole = part * shape.base_dtype.itemsize * shape.parameters
    forwards = 2 + (tokens["start"] > 0) + (tokens["teacher"] > 0)
    return {
        "weights gathered": batches * forwards * whole,
        "gradients": batches * part * shape.trainable_bytes,
        "weights to generate": whole,
    }


def estimate_update(shape: ModelShape, tokens: dict[str, float], rates: Rates) -> float:
    """Seconds of one rank that does all of the update."""
    read = tokens["start"] + tokens["teacher"]
    layers = shape.layers * (tokens["student"] * rates.train + read * rates.forward)
    compared = tokens["targets"] * ((tokens["start"] > 0) + (tokens["teacher"] > 0))
    return layers + tokens["targets"] * rates.head_train + compared * rates.head_forward
