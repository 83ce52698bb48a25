"""How much likelier one answer is than another to the same prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Preference(NamedTuple):
    """prompts: how many have a reference and a worse answer · share: of these, with the reference likelier per token ·
    margin: by how many nats per token, in the mean."""

    prompts: int
    share: float
    margin: float


def compute_margin(record: Mapping[str, Any]) -> float:
    """By how many nats per token a held-out record's reference is likelier than its rejected answer."""
    return float(record["rejected_nll_sum"] / record["rejected_tokens"] - record["nll_sum"] / record["tokens"])


def compute_preference(records: Iterable[Mapping[str, Any]]) -> Preference | None:
    """Over the records that have a rejected answer; None where none has."""
    margins = [compute_margin(record) for record in records if record.get("rejected_tokens")]
    if not margins:
        return None
    return Preference(len(margins), sum(margin > 0 for margin in margins) / len(margins), sum(margins) / len(margins))
