"""Local models that score: loaded once per process when first used, run in batches, never trained.

Under several ranks each process loads its own copy onto its own device and scores its own episodes; nothing is
communicated, so ranks may have unequally many.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fdt.errors import UserError
from fdt.policy.hub import resolve_model
from fdt.policy.policy import choose_fast_dtype
from feedback.types import Episode, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LocalClassifier:
    """A loaded classifier and its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """Tokens that the model can read at once, where its config gives their number."""
        return int(getattr(self.model.config, "max_position_embeddings", 2**31 - 1))


@lru_cache(maxsize=4)
def load_classifier(name: str, kind: str, device: str = "auto") -> LocalClassifier:
    """The classifier ``name`` (folder or hub id), without gradient.

    Args:
        name: as ``fdt.policy.hub.resolve_model`` takes it.
        kind: the class of transformers, ``AutoModelForSequenceClassification`` or ``AutoModelForTokenClassification``.
        device: auto (the process's GPU, else the CPU) or a device of torch.

    Raises:
        UserError: where there is no such model, its head has no weights (rewards of a causal LM would be random), or
            its tokenizer has no chat template.
    """
    import transformers

    place = resolve_model(name)
    target = torch.device(_get_own_device() if device == "auto" else device)
    dtype = choose_fast_dtype() if target.type == "cuda" else torch.float32
    # A grader loads in the middle of training, whose random numbers must not depend on it.
    with torch.random.fork_rng(devices=[]):
        model, found = getattr(transformers, kind).from_pretrained(place, dtype=dtype, output_loading_info=True)
    if found["missing_keys"]:
        raise UserError(
            "not a reward model",
            got=f"no weights for {', '.join(sorted(found['missing_keys']))}",
            expected="a checkpoint with a trained head",
            path=name,
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise UserError(
            "not a reward model for chats",
            got="a tokenizer without chat template or end token",
            expected="both, which lay out a conversation",
            path=name,
        )
    pad = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    return LocalClassifier(
        name.rstrip("/").rpartition("/")[2], model.to(target).eval().requires_grad_(False), tokenizer
    )


def _get_own_device() -> str:
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def build_context(episode: Episode, turn_index: int) -> list[Message]:
    """The messages before turn ``turn_index``."""
    return [*episode.task.messages, *({"role": turn.role, "content": turn.text} for turn in episode.turns[:turn_index])]


class RowTruncator:
    """Rows cut to a length: the beginning of the prompt goes first, an answer that is too long alone gets no score."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.truncated_count = 0
        self.skipped_count = 0

    def __call__(self, context: list[int], answer: list[int]) -> list[int] | None:
        """Context and answer as one row of at most ``max_tokens`` tokens; None where the answer alone is longer."""
        if not answer or len(answer) > self.max_tokens:
            self.skipped_count += 1
            return None
        room = self.max_tokens - len(answer)
        self.truncated_count += len(context) > room
        return context[max(0, len(context) - room) :] + answer

    def warn_truncated(self, name: str) -> None:
        """Warns of what was cut or left out."""
        if self.truncated_count or self.skipped_count:
            warnings.warn(
                f"{name}: {self.truncated_count} answers were scored without the beginning of their prompt, "
                f"{self.skipped_count} hold nothing or are longer than {self.max_tokens} tokens and were not scored.",
                stacklevel=3,
            )


def make_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of rows, longest first, in batches of at most ``budget`` tokens with padding, and at least one row."""
    part: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if part and lengths[part[0]] * (len(part) + 1) > budget:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


@torch.no_grad()
def compute_logits(local: LocalClassifier, rows: Sequence[list[int]], budget: int) -> list[Tensor]:
    """The head's outputs as float32 on the CPU: ``[labels]`` a row, or ``[tokens, labels]`` of a token classifier."""
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    pad = local.model.config.pad_token_id
    for part in make_batches([len(row) for row in rows], budget):
        width = len(rows[part[0]])
        tokens = torch.full((len(part), width), pad)
        for place, n in enumerate(part):
            tokens[place, : len(rows[n])] = torch.tensor(rows[n])
        lengths = torch.tensor([len(rows[n]) for n in part])
        mask = torch.arange(width)[None] < lengths[:, None]
        out = local.model(input_ids=tokens.to(local.device), attention_mask=mask.to(local.device)).logits.float().cpu()
        for n, values, length in zip(part, out, lengths.tolist(), strict=True):
            found[n] = values[:length] if values.dim() == 2 else values
    return found


def try_tokenize(make: Callable[..., list[int]], *arguments: Any) -> list[int] | None:
    """``make(*arguments)``, a function of ``fdt.data.tokenization``; None where text forges a control token."""
    with suppress(ValueError):
        return make(*arguments)
    warnings.warn("an answer writes control tokens that cannot be broken; it is not scored.", stacklevel=2)
    return None
