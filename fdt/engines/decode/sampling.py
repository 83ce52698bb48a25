"""How a token is drawn: greedily, or with random numbers that belong to a row and a step and to nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class RowNoise:
    """Uniform numbers in [0, 1) for ``rows`` answers: those of a row and a step are the same whatever else is in the
    batch, how large it is, in which order, and which rows have ended."""

    seed: int
    rows: int
    steps: list[Tensor] = field(default_factory=list)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.seed)

    def draw(self, step: int, rows: Tensor) -> Tensor:
        """Numbers ``[B]`` of a step, counted from 0, for these rows."""
        while len(self.steps) <= step:
            self.steps.append(torch.rand(self.rows, generator=self.generator))
        return self.steps[step][rows]


def choose_tokens(logits: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """Token ids ``[B]`` and their log-probs ``[B]`` (nats) under float32 logits ``[B, V]``: the likeliest, or with
    ``uniform`` ``[B]`` the first token up to which the probabilities add up to more than it."""
    total = logits.logsumexp(-1, keepdim=True)
    if uniform is None:
        chosen = logits.argmax(-1, keepdim=True)
    else:
        reached = (logits - total).exp_().cumsum_(-1)
        last = reached[:, -1:]
        # The sum may end a little off 1, and a number next to 1 be rounded up to it.
        aim = torch.minimum(uniform[:, None] * last, torch.nextafter(last, torch.zeros_like(last)))
        chosen = torch.searchsorted(reached, aim, right=True)
    return chosen[:, 0], (logits.gather(1, chosen) - total)[:, 0]
