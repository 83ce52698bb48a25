"""Engines generate: token ids in, token ids out."""

from fdt.engines.huggingface import Engine, HuggingFace

__all__ = ["Engine", "HuggingFace"]
