"""A model is checked once, at load: the log-probs computed here against the model's own logits.

Log-probs come from hidden states times the head's weight, without the model's own forward. Whatever a model does to
its logits after that product, or to hidden states before it, would be missed; and rows that share a prompt are read
together, which is only right where nothing but attention carries anything from one token to another. Neither can be
told from a config: names and places differ from family to family. So one row and one packed pair of rows are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fdt.data.batch import View
from fdt.errors import UserError
from fdt.policy.forward import build_hidden_fn, is_windowed

TEXT = "The quick brown fox jumps over the lazy dog; then it rests in the shade of an old tree, and nobody minds it."
ANSWERS = ("Yes, it does so every single day.", "No: the dog was never lazy, it only slept.")
LARGE = 50.0
"""Size that the largest logits are brought to for the comparison: a cap at 30 does nothing to logits of 0.1."""
TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 1.5}
"""Nats between log-probs of logits that large; rounding alone is a hundredth of that in float32."""
SPREAD = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Share of the hidden states' size by which packed ones may differ from those read alone."""


FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError)
"""What models raise that are not made to be read in this way."""


@dataclass(frozen=True)
class Rows:
    """Two rows with one context, of ordinary words."""

    context: list[int]
    answers: tuple[list[int], list[int]]

    @property
    def targets(self) -> Tensor:
        """Target ids of both rows."""
        return torch.tensor([*self.answers[0], *self.answers[1]])


@torch.no_grad()
def check_log_probs(causal: PreTrainedModel, tokenizer: Any, base: str) -> bool:
    """Compares log-probs of one row, and hidden states of a packed pair.

    Args:
        causal: as loaded, before adapters.
        tokenizer: writes the rows.
        base: its name, for messages.

    Returns:
        Whether rows that share a prompt may be read together.

    Raises:
        UserError: where log-probs differ from the model's own beyond rounding, or the model cannot be run apart from
            its head.
    """
    check_attention(causal, base)
    rows = build_rows(causal, tokenizer)
    training = causal.training
    causal.eval()
    try:
        alone = compute_alone(causal, rows, base)
        compare_log_probs(causal, rows, alone, base)
        return not is_windowed(causal) and packs_right(causal, rows, alone)
    finally:
        causal.train(training)


def check_attention(causal: PreTrainedModel, base: str) -> None:
    """
    Raises:
        UserError: where attention is biased by the distance of tokens in the row (ALiBi), which packed and padded rows
            change.
    """
    config = causal.config.get_text_config()
    inner = getattr(config, "attn_config", None)
    biased = bool(getattr(config, "alibi", False) or getattr(inner, "alibi", False))
    if biased or config.model_type == "bloom":
        raise build_error(
            base, "attention that is biased by distance (ALiBi)", "a model with rotary or learned positions"
        )


def build_rows(causal: PreTrainedModel, tokenizer: Any) -> Rows:
    """Rows as long as the model's positions allow, of ids that it has."""
    embedding: Any = causal.get_input_embeddings()
    size = int(embedding.weight.shape[0])
    longest = find_positions(causal) or 64

    def encode(text: str, most: int) -> list[int]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] or [0]
        return [i % size for i in ids[: max(1, most)]]

    first, second = (encode(text, longest // 4) for text in ANSWERS)
    return Rows(encode(TEXT, longest // 2), (first, second))


def compute_alone(causal: PreTrainedModel, rows: Rows, base: str) -> Tensor:
    """Hidden states ``[N, D]`` of both rows' answers, each read by itself.

    Raises:
        UserError: where the decoder cannot be run apart from its head, or not at all.
    """
    try:
        return torch.cat([compute_hidden(causal, rows.context, [answer], packs=False) for answer in rows.answers])
    except FAULTS as fault:
        reason = f"a decoder that does not give hidden states ({type(fault).__name__}: {fault})"
        raise build_error(base, reason, "a causal LM whose decoder runs apart from its head, in this dtype") from fault


def compute_hidden(
    causal: PreTrainedModel, context: list[int], answers: list[list[int]], packs: bool, parts_from: int | None = None
) -> Tensor:
    """Hidden states ``[N, D]`` of the answers' tokens, as training computes them."""
    view = View.from_pairs([(context, answer) for answer in answers])
    device = next(causal.parameters()).device
    return build_hidden_fn(causal, packs=packs, parts_from=parts_from)(view.to(device))


def compare_log_probs(causal: PreTrainedModel, rows: Rows, hidden: Tensor, base: str) -> None:
    """
    Raises:
        UserError: where hidden states times the head's weight give other log-probs than the model's own logits.
    """
    head: Any = causal.get_output_embeddings()
    raw = (hidden @ head.weight.T).float()
    factor = max(1.0, LARGE / float(raw.abs().max().clamp_min(1e-6)))
    with scale_head(head, factor):
        own = torch.cat([compute_own_logits(causal, rows.context, answer) for answer in rows.answers])
    differs = (raw * factor).log_softmax(-1) - own.log_softmax(-1)
    index = rows.targets.to(differs.device)[:, None]
    worst = float(differs.gather(1, index).abs().max())
    if not worst <= TOLERANCE.get(causal.dtype, max(TOLERANCE.values())):
        raise build_error(
            base,
            f"log-probs that differ by {worst:.3g} nats from its own (its logits are capped, scaled or shifted after "
            "the head, or its hidden states before it)",
            "a model whose logits are its last hidden states times the head's weight",
        )


def compute_own_logits(causal: PreTrainedModel, context: list[int], answer: list[int]) -> Tensor:
    """The model's own logits ``[N, V]`` before each token of an answer."""
    device = next(causal.parameters()).device
    found: Any = causal(input_ids=torch.tensor([context + answer], device=device), use_cache=False)
    return found.logits[0, len(context) - 1 : -1].float()


def packs_right(causal: PreTrainedModel, rows: Rows, alone: Tensor) -> bool:
    """Whether rows read together have the hidden states of rows read alone; a state that runs through the row (linear
    attention, convolutions, state spaces) goes from one answer into the next. Short packs are read under a mask, long
    ones in parts: both ways are tried."""
    answers = list(rows.answers)
    try:
        found = [compute_hidden(causal, rows.context, answers, True, parts_from) for parts_from in (sys.maxsize, 1)]
    except FAULTS:
        return False  # no mask of our own, then
    size = alone.float().norm(dim=-1).clamp_min(1e-6)
    spread = max(float(((packed.float() - alone.float()).norm(dim=-1) / size).max()) for packed in found)
    return spread <= SPREAD.get(causal.dtype, max(SPREAD.values()))


@contextmanager
def scale_head(head: torch.nn.Module, factor: float) -> Iterator[None]:
    """Multiplies what the head gives; what a model does to its logits afterwards acts on the product."""
    handle = head.register_forward_hook(lambda module, given, out: out * factor)
    try:
        yield
    finally:
        handle.remove()


def find_positions(causal: PreTrainedModel) -> int | None:
    """Most tokens of a row that the model has positions for; None where its config does not say."""
    config = causal.config.get_text_config()
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def build_error(base: str, got: str, expected: str) -> UserError:
    """A model that cannot be trained here."""
    return UserError(f"{base!r} cannot be trained", got=got, expected=expected, key="model.base")
