"""Is an answer written as asked? The format score that `objectives.FormatGate` reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from feedback.graders.base import RuleGrader, update_format_score
from feedback.graders.extract import find_spans
from feedback.types import Episode


@dataclass(frozen=True)
class FormatGrader(RuleGrader):
    """Scores the format of an answer: 1 where nothing is wrong, else 0 with the fault in words.

    Checked are the tags, the length, and whether the answer came to its end.
    """

    tags: list[str] = field(default_factory=list)
    """Tags that must stand in this order, each once, closed and not empty, with nothing before, between or after. The
    first one's opening may be missing, since many chat templates write it into the prompt. Empty: any text."""
    words: int | None = None
    """Longest length [words]; null: any."""
    finished: bool = True
    """Whether an answer that was cut off (`finished` false in the episode or in its row) is ill-formed."""

    def grade(self, episode: Episode) -> Episode:
        """Brings the score named "format" up to date."""
        return update_format_score(episode, self.find_error(episode))

    def find_error(self, episode: Episode) -> str | None:
        """What is wrong, in words; None where nothing is."""
        text = episode.response
        if self.finished and episode.is_cut_off:
            return "It was cut off before its end: it must be shorter."
        count = len(text.split())
        if self.words is not None and count > self.words:
            return f"It is too long: it has {count} words, {self.words} are allowed."
        return check_tags(text, self.tags) if self.tags else None


def check_tags(text: str, tags: list[str]) -> str | None:
    """What is wrong with the tags of `text`, in words; None where they are as asked."""
    if not re.match(rf"\s*<{re.escape(tags[0])}>", text, re.IGNORECASE):
        text = f"<{tags[0]}>{text}"
    end = 0
    for tag in tags:
        found = find_spans(text, tag)
        if not found:
            return f"It lacks <{tag}>...</{tag}>: {' '.join(f'<{name}>' for name in tags)} must follow one another."
        if len(found) > 1 or len(re.findall(rf"</?{re.escape(tag)}>", text, re.IGNORECASE)) > 2:
            return f"It has <{tag}> more than once."
        start, opened, closed, after = found[0]
        if start < end or text[end:start].strip():
            return f"Something stands before <{tag}> that belongs inside a tag, or the tags are out of order."
        if not text[opened:closed].strip():
            return f"Its <{tag}> is empty."
        end = after
    return "Something stands after the last tag." if text[end:].strip() else None
