"""The rewriting teacher: asks for corrected answers, and accepts a draft only when a grader prefers it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from feedback.drafters import Drafter, run_drafter
from feedback.graders.base import Grader, get_added_feedback, run_grader
from feedback.graders.drafts import LiteralCheck
from feedback.graders.function import FunctionGrader, as_grader
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Message, Turn

STATUSES = (
    "no draft",
    "empty",
    "same as the answer",
    "mentions the feedback",
    "too long",
    "does not follow the critique",
    "not better",
    "accepted",
)
"""What becomes of a draft, in the order of the checks; a row has the status of the draft that came furthest."""
FOLLOWS = 0.5
"""A draft follows its critique where `Rewriter.critique_check` gives it at least this score, or none."""


@dataclass(frozen=True)
class Rewriter:
    """Makes the prompts of a rewrite, has drafts written, and accepts the best one that passes its checks.

    An accepted draft becomes the row's revision: `objectives.Imitate` imitates it, `RewriteHint` or a template with
    {revision} shows it to the teacher, and with `add_to_group` it enters the group besides.
    """

    grader: FunctionGrader | Grader
    """Must give the draft a strictly better score than the answer it corrects; a function of an episode serves too."""
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
    critique_check: FunctionGrader | Grader | None = LiteralCheck()
    """A grader of drafts: it reads the episode with the draft as its revision, and a score below 0.5 refuses the draft,
    since it does not do what the critique says. Null: not asked."""
    drafter: Drafter | None = None
    """Who writes the drafts; null: the policy as it is now."""
    add_to_group: bool = False
    """True: an accepted rewrite also enters its group as one more answer with the grader's score (on-policy only). Its
    tokens are `off_policy` instead of `sampled`, since nobody knows their probability under the prompt:
    `objectives.OffPolicy` learns from them."""

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
        found = iter(run_drafter(drafter, [prompt for prompt in prompts if prompt is not None], self.drafts, seed))
        return self.accept(episodes, [None if prompt is None else next(found) for prompt in prompts])

    def build_prompts(self, episodes: Sequence[Episode]) -> list[list[Message] | None]:
        """For each episode the messages to generate drafts from; None where it has a revision or no critique."""
        hint = CritiqueHint(self.template)
        return [None if episode.revision is not None else hint(episode) for episode in episodes]

    def accept(
        self, episodes: Sequence[Episode], drafts: Sequence[Sequence[str] | str | None]
    ) -> tuple[list[Episode], Counter[str]]:
        """The episodes with accepted drafts added as revisions, and how many got which status.

        The counts add up to the number of episodes; each status is also in `revision_status`. With `add_to_group` the
        accepted rewrites follow as episodes of their own. Raises ValueError when the two lists differ in length.
        """
        if len(episodes) != len(drafts):
            raise ValueError(f"drafts: got {len(drafts)}, expected one for each of {len(episodes)} episodes")
        texts = [_list_drafts(given) for given in drafts]
        reasons = self._check_drafts(episodes, texts)
        passed = [(row, text) for (row, text), reason in reasons.items() if not reason]
        best = self._select_best(episodes, passed)
        found = []
        for row, (episode, given) in enumerate(zip(episodes, drafts, strict=True)):
            if row in best:
                revision = Feedback("policy", None, "rewrite", revision=best[row].response)
                episode = replace(episode.add_feedback(revision), revision_status="accepted")
            else:
                statuses = [reasons.get((row, text)) or "not better" for text in texts[row]]
                status = max(statuses, key=STATUSES.index, default="no draft")
                status = "own revision" if episode.revision is not None else "not asked" if given is None else status
                episode = replace(episode, revision_status=status)
            found.append(episode)
        counts = Counter(str(episode.revision_status) for episode in found)
        rewrites = [_make_rewrite(episodes[row], graded) for row, graded in best.items()] if self.add_to_group else []
        return found + rewrites, counts

    def _check_drafts(self, episodes: Sequence[Episode], texts: list[list[str]]) -> dict[tuple[int, str], str]:
        """Why each draft of a row is refused before the grader reads it; empty where it is not."""
        reasons = {
            (row, text): self._check_text(episode, text)
            for row, (episode, own) in enumerate(zip(episodes, texts, strict=True))
            if episode.revision is None
            for text in own
        }
        kept = [draft for draft, reason in reasons.items() if not reason]
        if self.critique_check is None or not kept:
            return reasons
        before = [episodes[row].add_feedback(Feedback("policy", None, "rewrite", revision=text)) for row, text in kept]
        after = run_grader(as_grader(self.critique_check), before)
        for draft, one, two in zip(kept, before, after, strict=True):
            if any(item.score < FOLLOWS for item in get_added_feedback(one, two)):  # NaN is not
                reasons[draft] = "does not follow the critique"
        return reasons

    def _check_text(self, episode: Episode, draft: str) -> str:
        """What is wrong with a draft's text; empty where nothing is."""
        if not draft:
            return "empty"
        if draft == episode.response.strip():
            return "same as the answer"
        if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", draft, re.IGNORECASE) for word in self.forbid):
            return "mentions the feedback"
        if len(draft) > max(self.min_length, self.max_length_ratio * len(episode.response)):
            return "too long"
        return ""

    def _select_best(self, episodes: Sequence[Episode], drafts: list[tuple[int, str]]) -> dict[int, Episode]:
        """For each row the graded draft with the highest score, where that is above the answer's.

        An unscored draft, or one to an unscored answer, is not better; the first of equals wins.
        """
        if not drafts:
            return {}
        rows = list(dict.fromkeys(row for row, _ in drafts))
        bare = {row: replace(episodes[row], feedback=(), preferences=()) for row in rows}
        revised = [replace(bare[row], turns=_replace_last_turn(bare[row].turns, text)) for row, text in drafts]
        graded = run_grader(as_grader(self.grader), [*bare.values(), *revised])
        before = {row: answer.score for row, answer in zip(rows, graded, strict=False)}
        best: dict[int, Episode] = {}
        for (row, _), draft in zip(drafts, graded[len(rows) :], strict=True):
            least = best[row].score if row in best else before[row]
            if not math.isnan(least) and draft.score > least:
                best[row] = draft
        return best


def _list_drafts(given: Sequence[str] | str | None) -> list[str]:
    """The different drafts of a row, without blanks around them."""
    texts = [given] if isinstance(given, str) else list(given or ())
    return list(dict.fromkeys(text.strip() for text in texts))


def _make_rewrite(episode: Episode, graded: Episode) -> Episode:
    return replace(graded, id=f"{episode.id}~rewrite", is_rewrite=True, revision_status=None)


def _replace_last_turn(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """The turns with the last assistant turn's words replaced; its sampled ids no longer apply."""
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    turn = Turn("assistant", text)
    return (*turns, turn) if last is None else (*turns[:last], turn, *turns[last + 1 :])
