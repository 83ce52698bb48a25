"""What an engine is given and gives back: token ids in, token ids with their log-probs out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from fdt.policy.policy import Policy

FORCED = math.nan
"""Stands for the log-prob of a token that the policy did not choose; such a token is read and never trained on."""


@dataclass(frozen=True)
class Limit:
    """How much one answer may hold."""

    tokens: int | None = None
    """Most tokens of the answer; None leaves it to the engine."""
    reasoning: int | None = None
    """Tokens after which an open reasoning block is closed for the policy; None never closes it."""
    delimiters: tuple[str, str] = ("<think>", "</think>")
    """What opens and what closes a reasoning block."""


@dataclass(frozen=True)
class Sample:
    """One answer."""

    ids: tuple[int, ...]
    """Token ids, the end token included where the policy wrote it."""
    log_probs: tuple[float, ...]
    """Log-prob (nats) of each id under the distribution it was drawn from; ``FORCED`` where it was not drawn."""


class Engine(ABC):
    """Generates answers."""

    @property
    def off_policy_reason(self) -> str | None:
        """What makes this engine sample from another distribution than the policy's own; None where nothing does."""
        return None

    @property
    def returns_policy_log_probs(self) -> bool:
        """Whether a sample's log-probs are those that the policy's own forward gives, but for rounding."""
        return False

    @property
    def reads_live_weights(self) -> bool:
        """Whether answers come from the very weights that train, and not from a copy that the engine holds."""
        return type(self).freeze is Engine.freeze

    @property
    def keeps_versions(self) -> bool:
        """Whether what `freeze` gave goes on answering with its weights when newer ones were frozen."""
        return True

    @property
    @abstractmethod
    def max_answer_tokens(self) -> int:
        """Most tokens of one answer where no ``Limit`` sets another number."""

    def freeze(self, policy: Policy) -> Engine | None:
        """An engine that answers with the policy's weights as they are now, while the policy goes on training; it may
        be asked from another thread. None: this engine reads the weights that train. Every rank must call.
        """
        return None

    @abstractmethod
    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit] | None = None,
    ) -> list[Sample]:
        """
        Args:
            policy: the weights to sample from.
            prompts: token ids, one list a prompt; none on a rank that only keeps the others company.
            seed: seed of the samples; None decodes greedily.
            limits: one for each prompt; None leaves all to the engine.

        Returns:
            One answer for each prompt.
        """
