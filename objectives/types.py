"""What an objective reads and returns: `Rollouts` (flat target tokens) and `Loss`."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOKEN_FIELDS = ("advantages", "turn", "episode", "old_log_probs", "engine_log_probs", "top_k_ids", "top_k_log_probs")
TOKEN_DICTS = ("masks", "weights")


@dataclass(frozen=True)
class Rollouts:
    """The N flat target tokens of a (micro-)batch; B, S count the rows and turns of the whole optimiser step.

    Tokens know their turn and their row (`episode`), rows know their task: no padding and no mask argument. A
    micro-batch holds whole rows, so that a row mean taken inside it is the row's mean.
    """

    advantages: Float[Tensor, "N"]
    turn: Int[Tensor, "N"]
    """Index of the policy turn, 0..S-1."""
    episode: Int[Tensor, "N"]
    """Index of the row, 0..B-1."""
    task: Int[Tensor, "B"]
    masks: dict[str, Bool[Tensor, "N"]]
    """`sampled`: tokens of the policy gradient; `distilled`: a teacher read them under a hint; `imitated`: targets of
    imitation; `off_policy`: answers that others wrote into the group; `recalled`: answers of earlier steps."""
    old_log_probs: Float[Tensor, "N"] | None = None
    """Behaviour log-probs [nats]; None: exactly on-policy."""
    engine_log_probs: Float[Tensor, "N"] | None = None
    """Log-probs that the generating engine reported at the old weights [nats]."""
    top_k_ids: Int[Tensor, "N k"] | None = None
    """The k likeliest tokens under the policy that sampled; None: the student's own are taken."""
    top_k_log_probs: Float[Tensor, "N k"] | None = None
    """Their log-probs under it [nats]."""
    scores: dict[str, Float[Tensor, "B"]] = field(default_factory=dict)
    """Named scores per row; NaN is absent."""
    turn_scores: dict[str, Float[Tensor, "S"]] = field(default_factory=dict)
    """Named scores per turn; NaN is absent."""
    turn_tags: Int[Tensor, "S"] | None = None
    """Kind of each turn, numbered from 0."""
    set_scores: Float[Tensor, "B m k"] | None = None
    """Rewards of the m answers that a row offers, padded with zeros."""
    weights: dict[str, Float[Tensor, "N"]] = field(default_factory=dict)
    """Per term: the weights that `Objective.weigh` gave for the whole optimiser step."""
    totals: dict[str, float] = field(default_factory=dict)
    """Per term: its denominator over the whole optimiser step and all ranks (the sum of `Objective.compute_totals`)."""
    lengths: Int[Tensor, "B"] | None = None
    """Target tokens per whole row; counted here where the caller gives none."""
    taught_prompts: Bool[Tensor, "B"] | None = None
    """Rows to whose prompt a teacher read an answer of the step on any rank; None: as these rows alone show."""
    update: int = 0
    """Optimiser steps done so far; schedules read it."""

    def __post_init__(self) -> None:
        if self.lengths is None:
            counted = torch.bincount(self.episode, minlength=len(self.task))
            object.__setattr__(self, "lengths", counted)

    @property
    def row_lengths(self) -> Int[Tensor, "B"]:
        """Target tokens per whole row."""
        assert self.lengths is not None
        return self.lengths

    def take(self, index: Int[Tensor, "n"]) -> "Rollouts":
        """Keep the tokens at `index` [n]; what is indexed by row or turn stays whole."""
        return self._map_tokens(lambda value: value[index])

    def to(self, device: torch.device | str) -> "Rollouts":
        """Copy every tensor to `device`."""
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device)
            elif isinstance(value, dict):
                moved[item.name] = {key: v.to(device) if isinstance(v, Tensor) else v for key, v in value.items()}
        return replace(self, **moved)

    def _map_tokens(self, change: Callable[[Tensor], Tensor]) -> "Rollouts":
        changed: dict[str, Any] = {
            name: change(value) for name in TOKEN_FIELDS if (value := getattr(self, name)) is not None
        }
        changed |= {name: {key: change(v) for key, v in getattr(self, name).items()} for name in TOKEN_DICTS}
        return replace(self, **changed)


@dataclass(frozen=True)
class Loss:
    """A value to descend [], and detached metrics {name: []}.

    Metrics add over micro-batches and ranks, except those whose name ends in `_min` or `_max`, which combine by
    minimum and maximum.
    """

    value: Float[Tensor, ""]
    metrics: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    signal: Float[Tensor, "N"] | None = None
    """How this term moves each token of the micro-batch, as the report shows it: above 0 raises its log-prob, below 0
    lowers it; 0 where the term has no weight. None: the term reports nothing per token."""
    needs_signal: bool = False
    """Whether tokens whose signal is 0 are not moved by this term at all, as those of advantage 0 under a policy
    gradient; elsewhere a token counts as used where it has weight."""
    parts: dict[str, "Loss"] = field(default_factory=dict)
    """For a sum: the loss of each term."""


def find_rows_of_turns(rollouts: Rollouts) -> Int[Tensor, "S"]:
    """The row of each turn, -1 for a turn without target tokens; S is the length of what is indexed by turn."""
    counts = [len(values) for values in rollouts.turn_scores.values()]
    counts += [] if rollouts.turn_tags is None else [len(rollouts.turn_tags)]
    counts += [] if counts or not len(rollouts.turn) else [int(rollouts.turn.max()) + 1]
    out = rollouts.turn.new_full((max(counts, default=0),), -1)
    out[rollouts.turn] = rollouts.episode
    return out


def count_turns(rollouts: Rollouts) -> Int[Tensor, "B"]:
    """Turns of each row that have target tokens."""
    parent = find_rows_of_turns(rollouts)
    return torch.bincount(parent[parent >= 0], minlength=len(rollouts.task))
