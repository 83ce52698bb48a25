"""Whether a model can be decoded by our own loop, tried once on a few tokens against its plain forward."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch.utilities import rank_zero_info
from transformers import PreTrainedModel

from fdt.engines.decode.kv_cache import has_plain_cache
from fdt.engines.decode.loop import DecodeBatch

PROMPTS = ((5, 9, 2, 7, 4, 11), (5, 9, 2, 7, 4, 11), (3, 8, 6))
CAPS = (3, 2, 3)
EXACT = 1e-2
"""Nats between log-probs of one token read with the cache and without, in float32."""
COARSE = 0.3
"""The same in shorter dtypes."""
FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError)
"""What models raise that are not made to be read in this way."""

_known: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def can_decode(causal: PreTrainedModel) -> bool:
    """Whether prompts can be read once for several answers, rows be left out and the cache be written in place. Models
    with windows or states that run through the row are left to ``transformers.generate``, as is any whose log-probs
    come out differently in this way."""
    if causal not in _known:
        _known[causal] = has_plain_cache(causal) and _decodes_right(causal)
    return _known[causal]


@torch.no_grad()
def _decodes_right(causal: Any) -> bool:
    size = int(causal.get_input_embeddings().weight.shape[0])
    prompts = [[token % size for token in prompt] for prompt in PROMPTS]
    try:
        ids, log_probs = DecodeBatch(causal, prompts, CAPS, [0]).decode()
        alone = [_score(causal, prompt, own) for prompt, own in zip(prompts, ids, strict=True)]
    except FAULTS:
        return False
    gap = max(abs(a - b) for one, two in zip(alone, log_probs, strict=True) for a, b in zip(one, two, strict=True))
    found = gap <= find_tolerance(causal)
    if not found:
        told = "log-probs with the cache and without differ by {:.2g} nats: answers are left to transformers.generate"
        rank_zero_info(told.format(gap))
    return found


def find_tolerance(causal: Any) -> float:
    """Nats that rounding may make, by what multiplies: autocast and TF32 have fewer digits than the weights."""
    device = next(causal.parameters()).device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else causal.dtype
    has_tf32 = device == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return EXACT if dtype == torch.float32 and not has_tf32 else COARSE


def _score(causal: Any, prompt: list[int], answer: list[int]) -> list[float]:
    """Log-probs of an answer's tokens, from one forward without a cache."""
    tokens = torch.tensor([prompt + answer], device=next(causal.parameters()).device)
    logits = causal(input_ids=tokens, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return [float(logits[n].log_softmax(-1)[token]) for n, token in enumerate(answer)]
