"""Engines generate: token ids in, token ids and their log-probs out."""

from fdt.engines.base import FORCED, Engine, Limit, Sample
from fdt.engines.decoding import SwitchPenalty
from fdt.engines.huggingface import HuggingFace
from fdt.engines.openai_tokens import OpenAITokens
from fdt.engines.vllm.colocate import VLLM
from fdt.engines.vllm.server import VLLMServer

__all__ = ["FORCED", "VLLM", "Engine", "HuggingFace", "Limit", "OpenAITokens", "Sample", "SwitchPenalty", "VLLMServer"]
