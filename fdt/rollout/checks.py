"""Combinations of plugs that would train on nothing, or on the wrong thing, are refused before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from fdt.data.markers import TokenMarker
from fdt.errors import UserError
from feedback.types import Episode
from objectives import Credit, PlanAmplified


def check_engine(engine: Any, source: Any, objective: Any) -> None:
    """
    Raises:
        UserError: where answers are sampled from another distribution than the policy's own and no gate corrects it.
    """
    if engine.off_policy_reason and hasattr(source, "generations") and "engine_log_probs" not in objective.reads:
        raise UserError(
            f"the policy gradient assumes samples of the policy's own distribution, and these come from {engine.off_policy_reason}",
            key="data.engine",
            remedy="sample as the policy is, or give the policy term a gate such as objectives.TruncatedIS",
        )


def check_advantages(
    credit: Credit, source: object, episodes: Sequence[Episode], marker: TokenMarker | None = None
) -> None:
    """
    Raises:
        UserError: where no group can give this credit any signal (recorded groups of one, or one answer a prompt), or
            where it tells the tokens of a turn apart by a mark that nothing gives.
    """
    mark = credit.mark if isinstance(credit, PlanAmplified) else None
    if mark is not None and (marker is None or marker.name != mark):
        raise UserError(
            f"nothing marks {mark} tokens",
            got=None if marker is None else f"a marker of {marker.name}",
            expected="data.marker, such as fdt.data.markers.StrategicGrams with what `fdt grams` wrote",
            key="data.credit",
        )
    if _has_kind(credit.turnwise, PlanAmplified):
        raise UserError(
            "PlanAmplified stands inside another credit",
            got=type(credit).__name__,
            expected="PlanAmplified outermost, with the other as its `credit`",
            key="data.credit",
        )
    if getattr(source, "behaviour", "start") == "drop":
        return
    places = {key: n for n, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
    task = torch.tensor([places[e.task.key] for e in episodes], dtype=torch.long)
    num_generations = getattr(source, "generations", None)
    try:
        credit.check(task if generations is None else torch.arange(len(places)).repeat_interleave(num_generations))
    except ValueError as fault:
        raise UserError(str(fault), key="data.credit") from fault


def _has_kind(value: object, kind: type) -> bool:
    """Whether a plug, or one inside it, is of this kind."""
    return isinstance(value, kind) or (
        is_dataclass(value) and any(_has_kind(getattr(value, item.name), kind) for item in fields(value))
    )
