"""How long an episode may be, and how many reasoning tokens each of its turns gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fdt.engines import Limit


@dataclass(frozen=True)
class ReasoningBudget:
    """A reasoning budget for each turn, from the context that is left when it begins.

    b = clip((C - h - n·o - a) / (n + 1), min_tokens, max_tokens): C is the context, h its used part, n the turns after
    this one, o the mean length of the environment's replies, a the tokens of the answer. The rule is ours; no published
    ablation of caps per turn was found. At b tokens an open reasoning block is closed by force; the forced tokens are
    read and never trained on.
    """

    min_tokens: int = 64
    """Fewest reasoning tokens of a turn, even where less is left for it by the rule."""
    max_tokens: int = 1024
    """Most reasoning tokens of a turn."""
    answer_tokens: int = 64
    """Tokens kept back for what follows the reasoning."""
    reply_tokens: int = 128
    """Expected tokens of the environment's reply, before its first; their mean afterwards."""
    delimiters: tuple[str, str] = ("<think>", "</think>")
    """What opens and what closes a reasoning block."""

    def compute_tokens(self, remaining: int, turns_after: int, reply_lengths: Sequence[int]) -> int:
        """
        Args:
            remaining: tokens of context that are left, C - h.
            turns_after: turns after this one.
            reply_lengths: tokens of each of the environment's replies so far.
        """
        mean = sum(reply_lengths) / len(reply_lengths) if reply_lengths else self.reply_tokens
        share = (remaining - turns_after * mean - self.answer_tokens) / (turns_after + 1)
        return int(min(max(share, self.min_tokens), self.max_tokens))


@dataclass(frozen=True)
class EpisodeLimits:
    """How the episodes of an environment are played."""

    tasks: int = 256
    """Tasks to train on, where the environment samples them."""
    heldout: int = 64
    """Tasks to measure on, and as many for `fdt test`, where the environment samples them."""
    max_turns: int = 8
    """Turns of the policy, after which an episode is cut."""
    max_context: int | None = None
    """Tokens of one conversation, after which an episode is cut: kept, with `end_reason` "out of context". Null: as
    `data.max_tokens`."""
    retries: int = 0
    """How often an episode is played again in a fresh session after its environment broke; then the run stops."""
    budget: ReasoningBudget | None = None
    """Reasoning budget of each turn; null: none."""

    def build_limit(
        self, remaining: int | None, max_tokens: int, turns_done: int, reply_lengths: Sequence[int]
    ) -> Limit:
        """
        Args:
            remaining: tokens of context that are left; None where it is unlimited.
            max_tokens: most tokens that the engine gives one turn.
            turns_done: turns of the policy so far.
            reply_lengths: tokens of each of the environment's replies so far.
        """
        tokens = max_tokens if remaining is None else min(max_tokens, remaining)
        if self.budget is None:
            return Limit(tokens)
        turns_after = self.max_turns - turns_done - 1
        # Without a limit on the context, each turn's own tokens are what is shared out.
        context = tokens * (turns_after + 1) if remaining is None else remaining
        share = self.budget.compute_tokens(context, turns_after, reply_lengths)
        return Limit(tokens, min(share, max(0, tokens - self.budget.answer_tokens)), self.budget.delimiters)
