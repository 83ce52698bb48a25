"""The rewriting teacher: asks for corrected answers, and accepts a draft only when a grader prefers it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from feedback.drafters import Drafter
from feedback.follows import CritiqueCheck, LiteralCheck
from feedback.graders.base import Grader
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Message, Turn

ORDER = (
    "no draft",
    "empty",
    "same as the answer",
    "mentions the feedback",
    "too long",
    "does not follow the critique",
    "not better",
    "accepted",
)
"""Verdicts on drafts, in the order in which they are reached; a row has that of the draft which came furthest."""


@dataclass(frozen=True)
class Rewriter:
    """Makes the prompts of a rewrite, has drafts written, and lets the best acceptable one pass.

    An accepted draft becomes the row's revision: `objectives.Imitate` imitates it, `RewriteHint` or a template with
    {revision} shows it to the teacher, and with `joins` it enters the group besides.
    """

    grader: Grader
    """Must give the draft a strictly better score than the answer it corrects."""
    max_length_ratio: float = 2.0
    """A draft may have this many times the answer's characters."""
    min_length: int = 200
    """A draft of up to this many characters is never too long."""
    forbid: tuple[str, ...] = ("feedback", "critique", "earlier answer", "previous answer")
    """Words that give away that there was a critique; compared without case, as whole words."""
    template: str = "rewrite.txt"
    """A file of `feedback/prompts`, or a path: ends the last user message, with {response}, {critique} filled in."""
    drafts: int = 1
    """Drafts for each row. The policy decodes the first greedily and samples the others; the best accepted one wins."""
    follows: CritiqueCheck | None = LiteralCheck()
    """Whether a draft does what the critique says; null: not asked."""
    drafter: Drafter | None = None
    """Who writes the drafts; null: the policy as it is now."""
    joins: bool = False
    """True: an accepted rewrite also enters its group as one more answer with the grader's score (on-policy only). It
    is marked `joined` instead of `acted`, since nobody knows its probability under the prompt: `objectives.OffPolicy`
    learns from it."""

    def __post_init__(self) -> None:
        if self.drafts < 1:
            raise ValueError(f"Rewriter.drafts: got {self.drafts}, expected at least 1")

    def rewrite(self, episodes: list[Episode], policy: Drafter, seed: int) -> tuple[list[Episode], Counter[str]]:
        """Asks for drafts where there is a critique and no revision, and judges them: what `accept` gives.

        `policy` drafts unless the rewriter has a drafter of its own.
        """
        prompts = self.build_prompts(episodes)
        drafter = self.drafter if self.drafter is not None else policy
        # Asked even where no row needs a draft: under FSDP2 every rank takes part in generating.
        found = iter(drafter([prompt for prompt in prompts if prompt is not None], self.drafts, seed))
        return self.accept(episodes, [None if prompt is None else next(found) for prompt in prompts])

    def build_prompts(self, episodes: Sequence[Episode]) -> list[list[Message] | None]:
        """For each episode the messages to generate drafts from; None where it has a revision or no critique."""
        hint = CritiqueHint(self.template)
        return [None if episode.revision is not None else hint(episode) for episode in episodes]

    def accept(
        self, episodes: Sequence[Episode], drafts: Sequence[Sequence[str] | str | None]
    ) -> tuple[list[Episode], Counter[str]]:
        """The episodes with accepted drafts added as revisions, and how many had which verdict.

        The verdicts add up to the number of episodes; each is also in `revision_status`. With `joins` the
        accepted rewrites follow as episodes of their own. Raises ValueError when the two lists differ in length.
        """
        if len(episodes) != len(drafts):
            raise ValueError(f"drafts: got {len(drafts)}, expected one for each of {len(episodes)} episodes")
        verdicts, pairs = [], []
        for row, (episode, given) in enumerate(zip(episodes, drafts, strict=True)):
            texts = [given] if isinstance(given, str) else list(given or ())
            passed = {text.strip(): self._check_draft(episode, text.strip()) for text in texts}
            pairs += [(row, text) for text, reason in passed.items() if not reason and episode.revision is None]
            verdict = max((reason or "not better" for reason in passed.values()), key=ORDER.index, default="no draft")
            verdict = "own revision" if episode.revision is not None else "not asked" if given is None else verdict
            verdicts.append(verdict)
        best = self._select_best(episodes, pairs)
        found = [self._add_revision(*row, best.get(n)) for n, row in enumerate(zip(episodes, verdicts, strict=True))]
        joined = [_make_off_policy(episodes[n], judged) for n, judged in best.items()] if self.joins else []
        return found + joined, Counter(str(episode.revision_status) for episode in found)

    @staticmethod
    def _add_revision(episode: Episode, verdict: str, judged: Episode | None) -> Episode:
        if judged is not None:
            verdict = "accepted"
            episode = episode.add_feedback(Feedback("policy", None, "rewrite", revision=judged.response))
        return replace(episode, revision_status=verdict)

    def _check_draft(self, episode: Episode, draft: str) -> str:
        """Why a draft is refused before the grader sees it; empty when it is not."""
        if not draft:
            return "empty"
        if draft == episode.response.strip():
            return "same as the answer"
        if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", draft, re.IGNORECASE) for word in self.forbid):
            return "mentions the feedback"
        if len(draft) > max(self.min_length, self.max_length_ratio * len(episode.response)):
            return "too long"
        if self.follows is not None and self.follows(episode, draft) is False:
            return "does not follow the critique"
        return ""

    def _select_best(self, episodes: Sequence[Episode], pairs: list[tuple[int, str]]) -> dict[int, Episode]:
        """For each row the judged draft that the grader scores highest, where that is above the answer.

        An unscored draft, or one to an unscored answer, is not better; the first of equals wins.
        """
        if not pairs:
            return {}
        rows = list(dict.fromkeys(row for row, _ in pairs))
        answers = [replace(episodes[row], feedback=(), preferences=()) for row in rows]
        bare = dict(zip(rows, answers, strict=True))
        revised = [replace(bare[row], turns=_replace_last_turn(bare[row].turns, text)) for row, text in pairs]
        judged = self.grader(answers + revised)
        before = {row: answer.score for row, answer in zip(rows, judged, strict=False)}
        best: dict[int, Episode] = {}
        for (row, _), draft in zip(pairs, judged[len(rows) :], strict=True):
            least = best[row].score if row in best else before[row]
            if not math.isnan(least) and draft.score > least:
                best[row] = draft
        return best


def _make_off_policy(episode: Episode, judged: Episode) -> Episode:
    return replace(judged, id=f"{episode.id}~rewrite", is_rewrite=True, revision_status=None)


def _replace_last_turn(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """The turns with the last assistant turn's words replaced; its sampled ids no longer apply."""
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    turn = Turn("assistant", text)
    return (*turns, turn) if last is None else (*turns[:last], turn, *turns[last + 1 :])
