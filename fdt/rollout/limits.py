"""How long an episode may be, and how its reasoning is rationed over the turns that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fdt.engines import Limit


@dataclass(frozen=True)
class ReasoningBudget:
    """A reasoning budget for each turn, from the context that is left when it begins.

    b = clip((C - h - n·o - a) / (n + 1), min_tokens, max_tokens): C is the context, h its used part, n the turns after this one,
    o the mean length of what the environment says. The rule is ours; no published ablation of caps per turn was found. At b
    tokens an open reasoning block is closed by force; the forced tokens are read and never trained on.
    """

    min_tokens: int = 64
    """Fewest reasoning tokens of a turn, even where less is left for it by the rule."""
    max_tokens: int = 1024
    """Most reasoning tokens of a turn."""
    answer_tokens: int = 64
    """Tokens kept back for what follows the reasoning."""
    reply_tokens: int = 128
    """Expected length of what the environment says, in tokens, until it has spoken; its mean afterwards."""
    delimiters: tuple[str, str] = ("<think>", "</think>")
    """What opens and what closes a reasoning block."""

    def compute_tokens(self, room: int, later: int, replies: Sequence[int]) -> int:
        """
        Args:
            room: context that is left, C - h.
            later: turns after this one.
            replies: lengths of what the environment has said so far.
        """
        mean = sum(replies) / len(replies) if replies else self.reply_tokens
        share = (room - later * mean - self.answer_tokens) / (later + 1)
        return int(min(max(share, self.min_tokens), self.max_tokens))


@dataclass(frozen=True)
class EpisodeLimits:
    """How the episodes of an environment are played."""

    tasks: int = 256
    """Tasks to train on, where the environment deals them."""
    heldout: int = 64
    """Tasks to measure on, and as many for `fdt test`, where the environment deals them."""
    max_turns: int = 8
    """Turns of the policy, after which an episode is cut."""
    max_context: int | None = None
    """Tokens of one conversation, after which an episode is cut: kept and marked, "out of context". Null: as
    `data.max_tokens`."""
    retries: int = 0
    """How often an episode is played again in a fresh session after its environment broke; then the run stops."""
    budget: ReasoningBudget | None = None
    """Reasoning budget of each turn; null: none."""

    def build_limit(self, room: int | None, longest: int, done: int, replies: Sequence[int]) -> Limit:
        """
        Args:
            room: context that is left; None where it is unlimited.
            longest: most tokens that the engine gives one turn.
            done: turns that the policy has spoken.
            replies: lengths of what the environment has said so far.
        """
        tokens = longest if room is None else min(longest, room)
        if self.budget is None:
            return Limit(tokens)
        later = self.max_turns - done - 1
        # Without a limit on the context, each turn's own tokens are what there is to ration.
        share = self.budget.compute_tokens(tokens * (later + 1) if room is None else room, later, replies)
        return Limit(tokens, min(share, max(0, tokens - self.budget.answer_tokens)), self.budget.delimiters)
