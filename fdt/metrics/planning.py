"""Planning and execution apart: how HICRA (arXiv 2509.03646, section on its metrics) tells its two phases apart.

First the perplexity of execution falls, then the strategic phrases become more diverse. Entropy of tokens alone would
not show the latter: most planning tokens have a high one, and few tokens of high entropy plan.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from torch import Tensor

from fdt.data.markers import EXECUTION, RESERVED_MASKS, TokenMarker
from feedback.types import Episode
from objectives import Rollouts, TokenLogProbs

PREFIX = "phases/"


def sum_planning_tokens(student: TokenLogProbs, rollouts: Rollouts) -> dict[str, Tensor]:
    """Tokens, negative log-likelihood [nats] and entropy [nats] of the sampled tokens inside a marker's mask, and of
    the others; nothing without a marker, and no entropy where a fused kernel gave the log-probs."""
    found: dict[str, Tensor] = {}
    sampled = rollouts.masks["sampled"]
    for name in sorted(set(rollouts.masks) - set(RESERVED_MASKS)):
        mask = rollouts.masks[name]
        for part, tokens in ((name, sampled & mask), (EXECUTION, sampled & ~mask)):
            found[f"{PREFIX}{part}/tokens"] = tokens.sum()
            found[f"{PREFIX}{part}/nll"] = -student.log_probs.detach().where(tokens, 0.0).sum()
            if student.kernel is None:
                found[f"{PREFIX}{part}/entropy"] = student.entropy.where(tokens, 0.0).sum()
    return found


def compute_planning_metrics(summed: dict[str, float]) -> dict[str, float]:
    """Takes those sums out of ``summed`` and gives the share of planning tokens, both entropies [nats], and the
    perplexity of execution, exp(mean NLL); what has no token is left out."""
    own = {key.removeprefix(PREFIX): summed.pop(key) for key in [key for key in summed if key.startswith(PREFIX)]}
    parts = {key.removesuffix("/tokens"): count for key, count in own.items() if key.endswith("/tokens")}
    found = {
        f"{part}_entropy": own[f"{part}/entropy"] / count
        for part, count in parts.items()
        if count and f"{part}/entropy" in own
    }
    if parts.get("execution"):
        found["execution_perplexity"] = math.exp(own["execution/nll"] / parts["execution"])
    whole = sum(parts.values())
    return found | {f"{part}_share": count / whole for part, count in parts.items() if whole and part != "execution"}


def count_phrases(episodes: Iterable[Episode], marker: TokenMarker) -> Counter[str]:
    """How often each phrase of the marker stands in the policy's turns; an episode of several rows counts once."""
    once = {episode.id: episode for episode in episodes}
    texts = (turn.text for episode in once.values() for turn in episode.policy_turns)
    return Counter(item.gram for text in texts for item in marker.find_spans(text))


def semantic_entropy(counts: Counter[str]) -> float:
    """Shannon entropy [nats] of which phrases are used; NaN where none is."""
    whole = sum(counts.values())
    return -sum(n / whole * math.log(n / whole) for n in counts.values() if n) if whole else math.nan
