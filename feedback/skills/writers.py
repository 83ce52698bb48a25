"""Who words skills: a win becomes a demonstration, a loss a lesson."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from feedback.returns import check_list, describe, refuse
from feedback.skills.bank import check_skill
from feedback.skills.types import DEMONSTRATION, LESSON, Attempt, Skill
from feedback.skills.use import find_prompt

ELLIPSIS = " …"


@dataclass(frozen=True)
class Written:
    """What a writer made of some attempts."""

    drafts: tuple[Skill, ...] = ()
    """Skills without ids."""
    refused: Counter[str] = field(default_factory=Counter)
    """What gave none, counted by reason."""


class SkillWriter(ABC):
    """Words what attempts teach. What it cannot word it counts by reason; it never guesses."""

    @abstractmethod
    def __call__(self, attempts: Sequence[Attempt], known: Sequence[Skill], most: int) -> Written:
        """
        Args:
            attempts: won and lost ones, those that matter most first.
            known: the bank's skills, so that none is worded twice.
            most: drafts that are wanted at most.
        """


def run_writer(writer: SkillWriter, attempts: Sequence[Attempt], known: Sequence[Skill], most: int) -> Written:
    """`SkillWriter.__call__`, checked.

    Raises:
        DataError: where it gives something else than skills, or more than were wanted.
    """
    found = writer(attempts, known, most)
    if not isinstance(found, Written):
        raise refuse(writer, describe(found), "a feedback.skills.Written")
    drafts = check_list(writer, found.drafts, Skill, "skills")
    if len(drafts) > most:
        raise refuse(writer, f"{len(drafts)} skills", f"at most the {most} that were wanted")
    for draft in drafts:
        check_skill(draft, type(writer).__name__, None)
    return found


@dataclass(frozen=True)
class TemplateSkills(SkillWriter):
    """Words skills without a model: a win gives its prompt and answer, a loss its critique, with the prompt as the case
    for which it holds. A loss that nobody criticised teaches nothing, and is counted."""

    demonstrations: bool = True
    """False: wins teach nothing, for a policy that makes nothing of other answers."""
    max_characters: int = 600
    """Longest prompt, answer or critique; what is longer is cut at its end, with an ellipsis."""

    def __call__(self, attempts: Sequence[Attempt], known: Sequence[Skill], most: int) -> Written:
        """One draft for each attempt that says something new, in their order."""
        refused = Counter[str]()
        drafts: dict[tuple[str, str | None, str], Skill] = {}
        taken = {(skill.kind, skill.category, skill.principle) for skill in known}
        for attempt in attempts:
            if attempt.won and not self.demonstrations:
                continue
            draft = self._write(attempt)
            if isinstance(draft, str):
                refused[draft] += 1
                continue
            key = (draft.kind, draft.category, draft.principle)
            if key in taken or key in drafts:
                refused["said before"] += 1
            elif len(drafts) < most:
                drafts[key] = draft
        return Written(tuple(drafts.values()), refused)

    def _write(self, attempt: Attempt) -> Skill | str:
        episode = attempt.episode
        case = self._cut(find_prompt(episode.task))
        words = episode.response if attempt.won else episode.critique
        if not words or not words.strip():
            return "an empty answer" if attempt.won else "a loss that nobody criticised"
        words = self._cut(words.strip())
        return Skill(
            kind=DEMONSTRATION if attempt.won else LESSON,
            category=attempt.category,
            title="An answer that was right" if attempt.won else "What an answer got wrong",
            principle=words,
            when_to_apply=case,
            author=type(self).__name__,
            tasks=(episode.task.key,),
        )

    def _cut(self, text: str) -> str:
        if len(text) <= self.max_characters:
            return text
        return text[: max(0, self.max_characters - len(ELLIPSIS))].rstrip() + ELLIPSIS
