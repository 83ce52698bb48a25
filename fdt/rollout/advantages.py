"""From episodes to advantages: their named scores become rollouts of one token a turn, which a credit reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdt.data.batch import build_untrained_rollouts
from fdt.data.rows import get_turn_tag
from fdt.distributed import gather_objects, get_rank
from fdt.errors import UserError
from feedback.readers.garbage import pause_collection
from feedback.types import Episode
from objectives import Credit, Rollouts
from objectives.returns import check_numbers


@dataclass(frozen=True)
class EpisodeScores:
    """What a credit reads of an episode; small enough to send to every rank."""

    task: str
    scores: dict[str, float]
    """Named scores of the whole; NaN where a name was judged without a number."""
    length: int
    """Tokens that the policy sampled."""
    turns: int = 1
    """Turns of the policy; at least 1."""
    turn_scores: dict[str, dict[int, float]] | None = None
    """Named scores of its turns."""
    tags: tuple[int, ...] | None = None
    """Kinds of its turns."""
    set_rewards: tuple[tuple[float, ...], ...] | None = None
    """The rewards of its set of answers, [m][k]."""


def compute_advantages(credit: Credit, episodes: Sequence[Episode], all_ranks: bool = False, update: int = 0) -> Tensor:
    """
    Args:
        credit: how scores compare.
        episodes: E episodes of this rank.
        all_ranks: compare with the episodes of all ranks (every rank must then call), not with these alone.
        update: a number of the rollout, for credits that sample; the same on every rank.

    Returns:
        Advantages, 0 where there is no score: ``[E]``, or ``[E, S]`` where the credit differs between turns, with S the
        most turns of an episode and 0 for turns that an episode does not have.

    Raises:
        UserError: where the credit reads a score that no episode has.
    """
    known, mine = gather_rollouts(episodes, all_ranks)
    return apply_credit(credit, replace(known, update=update))[mine]


def apply_credit(credit: Credit, known: Rollouts) -> Tensor:
    """Advantages of all rows of rollouts of one token a turn, as `compute_advantages` gives them."""
    apart = type(credit).compute_turns is not Credit.compute_turns
    if not len(known.task):
        return torch.zeros(0, 1) if apart else torch.zeros(0)
    try:
        if not apart:
            return check_numbers(credit.compute_rows(known), known.task.shape, credit, "advantages of rows")
        each = check_numbers(credit.compute_turns(known), known.episode.shape, credit, "advantages of turns")
    except ValueError as fault:
        raise UserError(str(fault), key="data.credit") from fault
    turns = torch.bincount(known.episode, minlength=len(known.task))
    position = torch.arange(len(each)) - (turns.cumsum(0) - turns)[known.episode]
    table = torch.zeros(len(turns), int(turns.max()))
    table[known.episode, position] = each
    return table


@pause_collection()
def gather_rollouts(episodes: Sequence[Episode], all_ranks: bool) -> tuple[Rollouts, slice]:
    """These episodes as rollouts of one token a turn, or (every rank must then call) those of all ranks; and the slice
    of these among them."""
    rows = [summarise_episode(episode) for episode in episodes]
    parts = gather_objects(rows) if all_ranks else [rows]
    start = sum(map(len, parts[: get_rank()])) if all_ranks else 0
    return build_rollouts([row for part in parts for row in part]), slice(start, start + len(rows))


def summarise_episode(episode: Episode) -> EpisodeScores:
    """What a credit reads of an episode."""
    own = episode.policy_turns
    tags = None if episode.turn_tags is None else tuple(get_turn_tag(episode, n) for n in range(len(own)))
    length = sum(len(turn.ids or ()) for turn in own)
    turns = max(1, len(own))
    return EpisodeScores(
        episode.task.key, episode.scores, length, turns, episode.turn_scores, tags, episode.set_rewards
    )


def build_rollouts(rows: Sequence[EpisodeScores]) -> Rollouts:
    """Rollouts of B rows and one token for each of their turns."""
    numbers = {key: n for n, key in enumerate(dict.fromkeys(row.task for row in rows))}
    names = sorted({name for row in rows for name in row.scores})
    turn_names = sorted({name for row in rows for name in row.turn_scores or {}})
    each = [(row, turn) for row in rows for turn in range(row.turns)]
    tagged = any(row.tags is not None for row in rows)
    turns = torch.tensor([row.turns for row in rows], dtype=torch.long)
    return build_untrained_rollouts(
        turns,
        turn=torch.arange(len(each)),
        task=torch.tensor([numbers[row.task] for row in rows], dtype=torch.long),
        scores={name: torch.tensor([row.scores.get(name, math.nan) for row in rows]) for name in names},
        turn_scores={
            name: torch.tensor([(row.turn_scores or {}).get(name, {}).get(turn, math.nan) for row, turn in each])
            for name in turn_names
        },
        turn_tags=torch.tensor([row.tags[turn] if row.tags else 0 for row, turn in each]) if tagged else None,
        set_scores=stack_set_scores(rows),
        lengths=torch.tensor([row.length for row in rows], dtype=torch.long),
    )


def stack_set_scores(rows: Sequence[EpisodeScores]) -> Tensor | None:
    """The rewards of each row's set of answers ``[B, m, k]``, NaN for a row that was not judged; None without any."""
    known = next((row.set_rewards for row in rows if row.set_rewards), None)
    if known is None:
        return None
    absent = ((math.nan,) * len(known[0]),) * len(known)
    return torch.tensor([row.set_rewards or absent for row in rows])
