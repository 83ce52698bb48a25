"""The rewriting teacher: asks for a corrected answer, and accepts a draft only when a critic prefers it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from feedback.critics.base import Critic
from feedback.hints import filled, load_template, placed
from feedback.types import Episode, Feedback, Message, Turn

STATUS = "revision_status"
"""Key of `Episode.meta` under which `accept` leaves its verdict."""


@dataclass(frozen=True)
class Rewriter:
    """Makes the prompts of a rewrite and judges its drafts; whoever owns a model generates in between."""

    critic: Critic
    """Must give the draft a strictly better score than the answer it corrects."""
    max_length_ratio: float = 2.0
    """A draft may have this many times the answer's characters."""
    min_length: int = 200
    """A draft of up to this many characters is never too long."""
    forbid: tuple[str, ...] = ("feedback", "critique", "earlier answer", "previous answer")
    """Words that give away that there was a critique; compared without case, as whole words."""
    template: str = "rewrite.txt"
    """A file of `feedback/prompts`, or a path: ends the last user message, with {response}, {critique} filled in."""

    def prompts(self, episodes: Sequence[Episode]) -> list[list[Message] | None]:
        """For each episode the messages to generate a draft from; None where it has a revision or no critique."""
        return [self._prompt(episode) for episode in episodes]

    def accept(self, episodes: Sequence[Episode], drafts: Sequence[str | None]) -> tuple[list[Episode], Counter[str]]:
        """The episodes with accepted drafts added as revisions, and how many had which verdict.

        The verdicts add up to the number of episodes; each is also in `meta["revision_status"]`. Raises ValueError
        when the two lists differ in length.
        """
        if len(episodes) != len(drafts):
            raise ValueError(f"drafts: got {len(drafts)}, expected one for each of {len(episodes)} episodes")
        verdicts = [self._refusal(episode, draft) for episode, draft in zip(episodes, drafts, strict=True)]
        for row in self._not_better(episodes, drafts, [n for n, verdict in enumerate(verdicts) if not verdict]):
            verdicts[row] = "not better"
        found = []
        for episode, draft, verdict in zip(episodes, drafts, verdicts, strict=True):
            if not verdict:
                episode = episode.with_feedback(Feedback("policy", None, "rewrite", revision=(draft or "").strip()))
            found.append(replace(episode, meta=episode.meta | {STATUS: verdict or "accepted"}))
        return found, Counter(verdict or "accepted" for verdict in verdicts)

    def _prompt(self, episode: Episode) -> list[Message] | None:
        if episode.revision is not None:
            return None
        text = filled(load_template(self.template), episode, episode.critique)
        return None if text is None else placed(episode.task.messages, text)

    def _refusal(self, episode: Episode, draft: str | None) -> str:
        """Why a draft is refused before the critic sees it; empty when it is not."""
        if episode.revision is not None:
            return "own revision"
        if draft is None:
            return "not asked"
        draft = draft.strip()
        if not draft:
            return "empty"
        if draft == episode.response.strip():
            return "same as the answer"
        if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", draft, re.IGNORECASE) for word in self.forbid):
            return "mentions the feedback"
        if len(draft) > max(self.min_length, self.max_length_ratio * len(episode.response)):
            return "too long"
        return ""

    def _not_better(self, episodes: Sequence[Episode], drafts: Sequence[str | None], rows: list[int]) -> list[int]:
        """The rows whose draft the critic does not score above the answer; an unscored draft is not better."""
        if not rows:
            return []
        answers = [replace(episodes[row], feedback=()) for row in rows]
        revised = [replace(answer, turns=_with_last(answer.turns, (drafts[row] or "").strip()))
                   for answer, row in zip(answers, rows, strict=True)]
        judged = self.critic(answers + revised)
        before, after = judged[: len(rows)], judged[len(rows):]
        return [row for row, old, new in zip(rows, before, after, strict=True)
                if math.isnan(old.score) or math.isnan(new.score) or new.score <= old.score]


def _with_last(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """The turns with the last assistant turn's words replaced; its sampled ids no longer apply."""
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    turn = Turn("assistant", text)
    return (*turns, turn) if last is None else (*turns[:last], turn, *turns[last + 1:])
