"""A key-value cache that is written in place: room for what will be generated, rows that are copied and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer


def has_plain_cache(causal: Any) -> bool:
    """Whether every layer of a model keeps keys and values of all tokens and nothing else: no window, no state that
    runs through the row."""
    if getattr(causal, "_is_stateful", False):
        return False
    try:
        layers = DynamicCache(config=causal.config).layers
    except (KeyError, AttributeError, ValueError):  # layers of a kind that the library has no cache for
        return False
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


class RoomyLayer(DynamicLayer):
    """Keys and values ``[B, H, room, D]`` of one layer, of which the first ``size`` tokens are written.

    A token is written into its place, instead of copying all earlier ones as concatenation does; where the room is
    used up it doubles.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.size = 0

    def fill(self, keys: Sequence[Tensor], values: Sequence[Tensor], rows: Tensor) -> None:
        """Takes over parts of a batch ``[b, H, T, D]`` that were read one after another, each of their rows as often
        as ``rows`` names it."""
        self.lazy_initialization(keys[0], values[0])
        self.size = keys[0].shape[-2]
        self.room = max(self.room, self.size)
        self.keys = self._spread(keys, rows)
        self.values = self._spread(values, rows)

    def _spread(self, parts: Sequence[Tensor], rows: Tensor) -> Tensor:
        read = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        found = read.new_empty(len(rows), read.shape[1], self.room, read.shape[3])
        found[:, :, : self.size] = read[rows]
        return found

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        end = self.size + key_states.shape[-2]
        if end > self.room:
            self._grow(end)
        assert self.keys is not None and self.values is not None
        self.keys[:, :, self.size : end] = key_states
        self.values[:, :, self.size : end] = value_states
        self.size = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grow(self, least: int) -> None:
        assert self.keys is not None and self.values is not None
        self.room = max(2 * self.room, least)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(old.shape[0], old.shape[1], self.room, old.shape[3])
            new[:, :, : self.size] = old[:, :, : self.size]
            setattr(self, name, new)

    def get_seq_length(self) -> int:
        return self.size

    def select_rows(self, rows: Tensor) -> None:
        """Keeps these rows of the batch."""
        assert self.keys is not None and self.values is not None
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(len(rows), old.shape[1], self.room, old.shape[3])
            new[:, :, : self.size] = old[rows, :, : self.size]
            setattr(self, name, new)


class RoomyCache(Cache):
    """One ``RoomyLayer`` a layer.

    Args:
        parts: caches that the prompts were read into, one for each part of them.
        rows: ``[B]`` which prompt each row of the batch goes on from.
        room: tokens that fit before anything has to be moved.
    """

    def __init__(self, parts: Sequence[Cache], rows: Tensor, room: int) -> None:
        layers = [RoomyLayer(room) for _ in parts[0].layers]
        super().__init__(layers=list(layers))
        for number, layer in enumerate(layers):
            read: list[Any] = [part.layers[number] for part in parts]
            if not read[0].is_initialized:  # a layer that reads the keys of another
                continue
            layer.fill([one.keys for one in read], [one.values for one in read], rows)
            for one in read:
                one.reset()

    def select_rows(self, rows: Tensor) -> None:
        """Keeps these rows of the batch."""
        for layer in self.layers:
            if isinstance(layer, RoomyLayer) and layer.is_initialized:
                layer.select_rows(rows)
