"""Engines generate: token ids in, token ids and their log-probs out."""

from fdt.engines.base import FORCED, Engine, Limit, Sample
from fdt.engines.decoding import SwitchPenalty
from fdt.engines.huggingface import HuggingFace

__all__ = ["FORCED", "Engine", "HuggingFace", "Limit", "Sample", "SwitchPenalty"]
