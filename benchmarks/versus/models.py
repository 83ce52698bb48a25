"""Models of any shape with random weights, so that time and memory can be measured without a download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

WORDS = Path(__file__).resolve().parents[2] / "fdt" / "bundled" / "tiny-conventions"
"""A small tokenizer with a chat template; ids above its own stand for no text."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder of Qwen3's kind, embedding and head tied."""

    vocabulary: int = 4096
    width: int = 128
    inner: int = 256
    layers: int = 2
    heads: int = 4
    key_heads: int = 2
    head_width: int = 32


SHAPES = {
    "tiny": Shape(),
    "qwen3-0.6b": Shape(151_936, 1024, 3072, 28, 16, 8, 128),
    "qwen3-4b": Shape(151_936, 2560, 9728, 36, 32, 8, 128),
}


def save_random_model(folder: Path, shape: Shape, device: str = "cpu") -> Path:
    """A model folder that `model.base` and TRL accept; the weights are made on the device, in bfloat16."""
    tokenizer = AutoTokenizer.from_pretrained(WORDS)
    config = Qwen3Config(
        vocab_size=max(shape.vocabulary, len(tokenizer)),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head_width,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
