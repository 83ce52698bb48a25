"""Scored answers are kept, and used again in steps with few scores: a score that was given once still holds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import torch
from torch import Tensor

from fdt.distributed import gather_objects, get_rank
from feedback.types import Episode


@dataclass
class ScoredMemory:
    """Fills the scored rows of a step up to a share of its answers; where that many fresh ones are scored it adds none.

    A recalled answer keeps the log-probs with which it was sampled; `objectives.topr` weighs it by them (TOPR, arXiv
    2503.14286). No teacher reads it again. All ranks hold the same memory, so a checkpoint of one holds it all.
    """

    share: float = 0.5
    """Scored rows wanted, as a share of the answers of a step."""
    limit: int = 4096
    """Most answers kept; the oldest go first."""
    kept: list[Episode] = field(default_factory=list, init=False)
    """The scored answers, the oldest first."""

    def recall(
        self, fresh: Sequence[Episode], seed: int, weigh: Callable[[Episode], float] | None = None
    ) -> list[Episode]:
        """This rank's share of what fills up the step; then the fresh scored answers of all ranks are kept.

        Args:
            fresh: this rank's new answers.
            seed: of the choice, the same on every rank.
            weigh: how much an answer's score counts, at least 0; answers are drawn in proportion to it, and none that
                counts for nothing. None: all alike.
        """
        scored = [replace(episode, is_recalled=True) for episode in fresh if can_recall(episode)]
        parts = gather_objects((len(fresh), scored))
        known = sum(len(part) for _, part in parts)
        missing = int(self.share * sum(size for size, _ in parts)) - known
        chosen = self._choose(missing, random.Random(seed), weigh)
        self.kept = [*self.kept, *(episode for _, part in parts for episode in part)][-self.limit :]
        return chosen[get_rank() :: len(parts)]

    def _choose(self, number: int, draw: random.Random, weigh: Callable[[Episode], float] | None) -> list[Episode]:
        """So many of what is kept, or all there are, each once (weighted as in Efraimidis and Spirakis, 2006)."""
        if number <= 0:
            return []
        if weigh is None:
            return draw.sample(self.kept, min(number, len(self.kept)))
        weights = [weigh(episode) for episode in self.kept]
        keys = {n: draw.expovariate(weight) for n, weight in enumerate(weights) if weight > 0}
        return [self.kept[n] for n in sorted(keys, key=keys.__getitem__)[:number]]

    def pack(self) -> Tensor:
        """What is kept, as bytes [n] for a checkpoint."""
        return torch.frombuffer(bytearray(msgspec.msgpack.encode(self.kept)), dtype=torch.uint8)

    def unpack(self, packed: Tensor) -> None:
        """Takes what a checkpoint held.

        Raises:
            msgspec.DecodeError: where these are not the bytes of episodes.
        """
        self.kept = msgspec.msgpack.decode(packed.numpy().tobytes(), type=list[Episode])


def can_recall(episode: Episode) -> bool:
    """Whether an answer has a score, and the log-probs with which each of its turns was sampled."""
    own = episode.policy_turns
    return not math.isnan(episode.score) and bool(own) and all(turn.ids and turn.log_probs for turn in own)
