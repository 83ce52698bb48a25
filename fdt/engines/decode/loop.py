"""Answers token by token from a model with a plain cache: each prompt is read once, and rows that ended leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from fdt.engines.base import FORCED
from fdt.engines.decode.kv_cache import RoomyCache
from fdt.engines.decode.sampling import choose_tokens

PREFILL_TOKENS = 8192
"""Most tokens of one forward over prompts, padding included."""
KEPT_SHARE = 0.8
"""Rows that ended leave the batch once fewer than this share of it is live: leaving copies the cache."""


class Processor(Protocol):
    """Changes logits ``[B, V]`` that follow ids ``[B, T]``."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor: ...

    def select_rows(self, rows: list[int]) -> None:
        """Keeps these rows of the batch."""


@dataclass
class DecodeBatch:
    """Answers to prompts that are decoded together.

    Args:
        causal: the model, in evaluation mode.
        prompts: token ids, one list an answer; equal ones are read once.
        caps: most tokens of each answer.
        stops: ids that end an answer; the first pads.
        draw: uniform numbers ``[B]`` of a step, for all answers of this batch in order; None decodes greedily.
        processors: change logits before a token is drawn, in order.
        find_forced: which rows of the batch got a token at the last step that nobody chose.
        listen: called with the number of an answer and its next token, as soon as it is drawn.
    """

    causal: Any
    prompts: Sequence[Sequence[int]]
    caps: Sequence[int]
    stops: Sequence[int]
    draw: Callable[[int], Tensor] | None = None
    processors: Sequence[Processor] = ()
    find_forced: Callable[[], list[bool]] | None = None
    listen: Callable[[int, int], None] | None = None
    ids: list[list[int]] = field(default_factory=list)
    log_probs: list[list[float]] = field(default_factory=list)

    @torch.no_grad()
    def decode(self) -> tuple[list[list[int]], list[list[float]]]:
        """Token ids, the end token included, and log-probs (nats) of each answer; ``FORCED`` for forced tokens."""
        self.ids = [[] for _ in self.prompts]
        self.log_probs = [[] for _ in self.prompts]
        self._open()
        logits = self._read_prompts()
        while True:
            ended = self._append(logits)
            if all(ended):
                return self.ids, self.log_probs
            self._drop(ended)
            logits = self._read_token()

    def _open(self) -> None:
        """Lays out ids and mask ``[B, T + room]``, prompts padded on the left; the room doubles when it is used up."""
        device = next(self.causal.parameters()).device
        self.width = max(map(len, self.prompts))
        self.live = list(range(len(self.prompts)))
        self.done = [False] * len(self.prompts)
        self.step = 0
        pad = self.stops[0]
        room = self.width + max(self.caps)
        self.tokens = torch.full((len(self.prompts), room), pad, device=device)
        self.mask = torch.ones(len(self.prompts), room, dtype=torch.long, device=device)
        for row, ids in enumerate(self.prompts):
            gap = self.width - len(ids)
            self.tokens[row, gap : self.width] = torch.tensor(ids, device=device)
            self.mask[row, :gap] = 0
        self.padded = min(map(len, self.prompts)) < self.width
        self.lengths = torch.tensor([len(ids) for ids in self.prompts], device=device)

    def _read_prompts(self) -> Tensor:
        """Logits ``[B, V]`` after the prompts, each different one read once, and the cache to go on from."""
        places: dict[tuple[int, ...], int] = {}
        source = [places.setdefault(tuple(ids), len(places)) for ids in self.prompts]
        first = torch.tensor([source.index(place) for place in range(len(places))], device=self.tokens.device)
        parts: list[Cache] = []
        found = []
        for rows in first.split(max(1, PREFILL_TOKENS // self.width)):
            mask = self.mask[rows, : self.width]
            positions = (mask.cumsum(-1) - 1).clamp_min(0)
            parts.append(DynamicCache(config=self.causal.config))
            found.append(self._forward(self.tokens[rows, : self.width], mask, positions, parts[-1]))
        index = torch.tensor(source, device=self.tokens.device)
        self.cache = RoomyCache(parts, index, min(self.tokens.shape[1], self.width + 512))
        return torch.cat(found)[index]

    def _read_token(self) -> Tensor:
        end = self.width + self.step
        positions = (self.lengths + self.step - 1)[:, None]
        return self._forward(self.tokens[:, end - 1 : end], self.mask[:, :end], positions, self.cache)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        out = self.causal(
            input_ids=ids,
            attention_mask=mask if self.padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def _append(self, logits: Tensor) -> list[bool]:
        """Draws one token a row; says which rows of the batch are over."""
        end = self.width + self.step
        for processor in self.processors:
            logits = processor(self.tokens[:, :end], logits)
        uniform = None if self.draw is None else self.draw(self.step)[self.live].to(logits.device)
        chosen, log_probs = choose_tokens(logits, uniform)
        self.tokens[:, end] = chosen
        self.step += 1
        forced = self.find_forced() if self.find_forced is not None else [False] * len(self.live)
        drawn = zip(self.live, chosen.tolist(), log_probs.tolist(), forced, strict=True)
        for row, token, log_prob, was_forced in drawn:
            if self.done[row]:
                continue
            self.ids[row].append(token)
            self.log_probs[row].append(FORCED if was_forced else log_prob)
            if self.listen is not None:
                self.listen(row, token)
            self.done[row] = token in self.stops or len(self.ids[row]) >= self.caps[row]
        return [self.done[row] for row in self.live]

    def _drop(self, ended: list[bool]) -> None:
        """Takes rows that ended out of the batch, where it pays."""
        kept = [place for place, over in enumerate(ended) if not over]
        if len(kept) > KEPT_SHARE * len(ended):
            return
        rows = torch.tensor(kept, device=self.tokens.device)
        self.live = [self.live[place] for place in kept]
        self.tokens = self.tokens[rows]
        self.mask = self.mask[rows]
        self.lengths = self.lengths[rows]
        self.cache.select_rows(rows)
        for processor in self.processors:
            processor.select_rows(kept)
