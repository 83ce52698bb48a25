"""Tiny classifiers that judge: random weights, a real tokenizer, saved to a folder as any other model."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaForTokenClassification

from tests.helpers.tiny import tokenizer

KINDS = {"sequence": LlamaForSequenceClassification, "token": LlamaForTokenClassification}


def save_classifier(folder: Path, kind: str = "sequence", labels: int = 1, separator: str | None = "<extra_0>") -> Path:
    """A two-layer classifier over bytes with ``labels`` outputs, whose tokenizer knows the separator of steps."""
    words = tokenizer()
    if separator is not None:
        words.add_special_tokens({"additional_special_tokens": ["<|im_start|>", separator]})
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        num_labels=labels,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        KINDS[kind](config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
