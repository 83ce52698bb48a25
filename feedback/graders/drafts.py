"""Does a draft do what its critique asks? A grader of drafts: it judges the revision of a criticised episode."""

from __future__ import annotations

import re
from dataclasses import dataclass

from feedback.graders.base import RuleGrader, build_rule_feedback
from feedback.types import Episode

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
RIGHT_NUMBER = re.compile(
    rf"(?<!not )(?:\b(?:is|be|are|equals?|gives|makes)\b|\banswer\b:?|=)\s*\$?({NUMBER})(?![\w.]*\d)",
    re.ASCII | re.IGNORECASE,
)
QUOTED = re.compile(r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`")


@dataclass(frozen=True)
class LiteralCheck(RuleGrader):
    """Holds a draft (the episode's revision) to what the critique spells out; the score is named "follows".

    - A number given as right ("46 + 13 is 59", "= 59", "answer: 59") that the answer lacks: the draft has the last one.
    - Passages of the answer that the critique quotes: not all of them stand in the draft unchanged.
    - Quotes of what neither answer nor prompt says: the draft has at least one of them, whatever its case.
    """

    def grade(self, episode: Episode) -> Episode:
        """Adds 1 or 0; nothing where there is no draft, or the critique has no such number and no quotes."""
        follows = None if episode.revision is None else check_draft(episode, episode.revision)
        return episode if follows is None else episode.add_feedback(build_rule_feedback("follows", float(follows)))


def check_draft(episode: Episode, draft: str) -> bool | None:
    """Whether a draft does what the episode's critique asks; None where it asks nothing that can be checked."""
    critique = episode.critique or ""
    answer = episode.response
    prompt = "\n".join(str(message["content"]) for message in episode.task.messages)
    numbers = [_normalize_number(number) for number in RIGHT_NUMBER.findall(critique)]
    missing = [number for number in numbers if number not in _extract_numbers(answer)]
    quotes = [next(filter(None, found)) for found in QUOTED.findall(critique)]
    blamed = [quote for quote in quotes if quote in answer]
    wanted = [quote for quote in quotes if quote not in answer and quote not in prompt]
    checks = []
    if missing:
        checks.append(missing[-1] in _extract_numbers(draft))
    if blamed:
        checks.append(not all(quote in draft for quote in blamed))
    if wanted:
        checks.append(any(quote.casefold() in draft.casefold() for quote in wanted))
    return all(checks) if checks else None


def _extract_numbers(text: str) -> set[str]:
    return {_normalize_number(number) for number in re.findall(NUMBER, text, re.ASCII)}


def _normalize_number(number: str) -> str:
    """Without what groups digits, and without a fraction of zero."""
    whole, _, fraction = number.replace(",", "").partition(".")
    return f"{whole}.{fraction.rstrip('0')}".rstrip(".")
