"""From episodes to advantages: their named scores become rollouts without tokens, which a credit reads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from fdt.batch import untrained
from fdt.errors import UserError
from fdt.ranks import everyone, rank
from feedback.types import Episode
from objectives import Credit, Rollouts

Row = tuple[str, dict[str, float], int]


def advantages(credit: Credit, episodes: Sequence[Episode], everywhere: bool = False) -> Tensor:
    """
    Args:
        credit: how scores compare.
        episodes: E episodes of this rank.
        everywhere: compare with the episodes of all ranks (every rank must then call), not with these alone.

    Returns:
        Advantages ``[E]``, 0 where there is no score.

    Raises:
        UserError: where the credit asks for a score that no episode has.
    """
    known, mine = compared(episodes, everywhere)
    if not len(known.task):
        return torch.zeros(0)
    try:
        return credit.rows(known)[mine]
    except ValueError as fault:
        raise UserError(str(fault), key="data.credit") from fault


def compared(episodes: Sequence[Episode], everywhere: bool) -> tuple[Rollouts, slice]:
    """These episodes as rollouts without tokens, or (every rank must then call) those of all ranks; and the place of
    these among them."""
    rows = [row(episode) for episode in episodes]
    parts = everyone(rows) if everywhere else [rows]
    start = sum(map(len, parts[: rank()])) if everywhere else 0
    return rollouts([row for part in parts for row in part]), slice(start, start + len(rows))


def row(episode: Episode) -> Row:
    """Task, named scores (``score`` is the episode's own), and the length of the answer in tokens where it was sampled.

    A name that was judged without a number is there as NaN: a policy that never states a confidence is no mistake in a
    config.
    """
    named: dict[str, list[float]] = defaultdict(list)
    for item in episode.feedback:
        named[item.name] += [] if math.isnan(item.score) else [item.score]
    scores = {name: sum(values) / len(values) if values else math.nan for name, values in named.items()}
    scores |= {"score": episode.score}
    return episode.task.key, scores, len(episode.turns[-1].ids or ())


def rollouts(rows: Sequence[Row]) -> Rollouts:
    """Rollouts of B rows and no tokens."""
    places = {key: n for n, key in enumerate(dict.fromkeys(key for key, _, _ in rows))}
    names = sorted({name for _, scores, _ in rows for name in scores})
    return untrained(
        torch.zeros(len(rows), dtype=torch.long),
        task=torch.tensor([places[key] for key, _, _ in rows], dtype=torch.long),
        scores={name: torch.tensor([scores.get(name, math.nan) for _, scores, _ in rows]) for name in names},
        lengths=torch.tensor([length for _, _, length in rows], dtype=torch.long),
    )


def check_credit(credit: Credit, source: object, episodes: Sequence[Episode]) -> None:
    """
    Raises:
        UserError: where no group can give this credit any signal (recorded groups of one, or one answer a prompt), or
            where it tells the steps of an episode apart, which single-turn episodes do not have.
    """
    if type(credit).assign is not Credit.assign:
        raise UserError("credits of single steps need episodes of several turns", got=type(credit).__name__,
                        expected="a credit of whole answers", key="data.credit")  # fmt: skip
    if getattr(source, "behaviour", "start") == "drop":
        return
    places = {key: n for n, key in enumerate(dict.fromkeys(e.task.key for e in episodes))}
    task = torch.tensor([places[e.task.key] for e in episodes], dtype=torch.long)
    generations = getattr(source, "generations", None)
    try:
        credit.check(task if generations is None else torch.arange(len(places)).repeat_interleave(generations))
    except ValueError as fault:
        raise UserError(str(fault), key="data.credit") from fault
