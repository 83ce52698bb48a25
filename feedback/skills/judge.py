"""A model that words skills, through the gateway of the judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from feedback.faults import DataError, format_value
from feedback.gateway import Failure, Gateway, Reply, Request, Sampling
from feedback.graders.judges.prompt import build_judge_prompt, format_answer, format_question
from feedback.graders.judges.reply import Form, UnreadableReply, build_schema, read_form
from feedback.skills.types import DEMONSTRATION, LESSON, Attempt, Skill
from feedback.skills.writers import SkillWriter, Written


class SkillReply(Form):
    """One skill as a judge words it."""

    title: str
    principle: str
    when_to_apply: str = ""


class SkillsReply(Form):
    """What a judge makes of some attempts."""

    analysis: str = ""
    skills: list[SkillReply] = Field(min_length=1)


@dataclass(frozen=True)
class JudgeSkills(SkillWriter):
    """A judge reads attempts of one outcome and category and words what they teach (SkillRL, arXiv 2602.08234). A reply
    that cannot be read adds nothing, and is counted by reason; an outage stops the run, as it does for judges."""

    gateway: Gateway
    """The server, its model, and the cache of replies: no question is paid twice."""
    sampling: Sampling = Sampling(max_tokens=2048)
    """How the judge generates."""
    lessons: str = "judge_lessons.txt"
    """What is asked about losses: a file of `feedback/prompts`, or a path, with {attempts}, {known} and {most}."""
    demonstrations: str = "judge_demonstrations.txt"
    """The same about wins."""
    max_characters: int = 2000
    """Longest question and longest answer of an attempt that the judge reads; of a longer one beginning and end."""

    def __post_init__(self) -> None:
        if self.max_characters < 100:
            where = f"{type(self).__name__}.max_characters"
            raise DataError("config", None, where, format_value(self.max_characters), "at least 100")

    def __call__(self, attempts: Sequence[Attempt], known: Sequence[Skill], most: int) -> Written:
        """Asks one question for each outcome and category, for at most `most` of them, the first ones."""
        groups: dict[tuple[bool, str | None], list[Attempt]] = {}
        for attempt in attempts:
            groups.setdefault((attempt.won, attempt.category), []).append(attempt)
        asked = list(groups.items())[:most]
        if not asked:
            return Written()
        each = [most // len(asked) + (place < most % len(asked)) for place in range(len(asked))]
        requests = [self._build_request(*group, known, count) for group, count in zip(asked, each, strict=True)]
        refused = Counter[str]()
        drafts: list[Skill] = []
        for ((won, category), group), count, reply in zip(asked, each, self.gateway.ask(requests), strict=True):
            found = self._read(reply, count)
            if isinstance(found, str):
                refused[found] += 1
                continue
            keys = tuple(dict.fromkeys(attempt.episode.task.key for attempt in group))
            drafts += [
                Skill(
                    kind=DEMONSTRATION if won else LESSON,
                    category=category,
                    title=item.title.strip(),
                    principle=item.principle.strip(),
                    when_to_apply=item.when_to_apply.strip(),
                    author=self.gateway.model,
                    tasks=keys,
                )
                for item in found
            ]
        return Written(tuple(drafts), refused)

    def _build_request(
        self, key: tuple[bool, str | None], group: Sequence[Attempt], known: Sequence[Skill], most: int
    ) -> Request:
        won, category = key
        texts = {f"attempt{place}": self._describe(attempt) for place, attempt in enumerate(group, 1)}
        kind = DEMONSTRATION if won else LESSON
        titles = [f"- {skill.text}" for skill in known if skill.kind == kind and skill.category in (None, category)]
        template = self.demonstrations if won else self.lessons
        listed = {"attempts": tuple(texts)}
        messages = build_judge_prompt(template, texts | {"known": "\n".join(titles)}, {"most": str(most)}, listed)
        tag = f"{kind} {category or ''}".strip()
        return Request(messages, self.sampling, build_schema(SkillsReply), tag=tag)

    def _describe(self, attempt: Attempt) -> str:
        episode = attempt.episode
        parts = {
            "Asked": self._cut(format_question(episode)),
            "Answered": self._cut(format_answer(episode.turns)),
            "Said about it": self._cut(episode.critique or ""),
            "What would have been right": "" if attempt.won else self._cut(episode.task.reference or ""),
        }
        return "\n\n".join(f"{name}:\n{text}" for name, text in parts.items() if text)

    def _cut(self, text: str) -> str:
        half = self.max_characters // 2
        return text if len(text) <= self.max_characters else f"{text[:half]}\n[…]\n{text[-half:]}"

    def _read(self, reply: Reply | Failure, most: int) -> list[SkillReply] | str:
        """The skills, or why there are none."""
        try:
            found = read_form(reply, SkillsReply).skills
        except UnreadableReply as fault:
            return str(fault)
        if len(found) > most:
            return "more skills than asked for"
        if any(not item.title.strip() or not item.principle.strip() for item in found):
            return "a skill without words"
        return found
