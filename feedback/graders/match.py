"""Verifiers by text: the same words as the reference, or a pattern."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

from feedback.graders import patterns
from feedback.graders.base import RuleGrader, build_rule_feedback
from feedback.graders.verifier import Verifier, reject_answer, reveal_answer, warn_ungraded
from feedback.types import Episode, Feedback, Task

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class ExactMatch(Verifier):
    """Compares the answer with the reference, word by word: score 1 or 0. A task without reference is not judged."""

    strict: bool = False
    """True: every character counts. False: case, ASCII punctuation, a/an/the and the width of spaces do not, as in
    HotpotQA's measure, which RLCR (arXiv 2507.16806) uses."""

    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """One `Feedback` named "exact"; None without a reference, or where nothing of it is left to compare."""
        right = self._normalize(task.reference or "")
        if not right:
            return None
        if answer is not None and self._normalize(answer) == right:
            return build_rule_feedback("exact", 1.0)
        return build_rule_feedback("exact", 0.0, reveal_answer(task) if self.reveal else reject_answer(answer))

    def _normalize(self, text: str) -> str:
        return text if self.strict else normalize_text(text)


def normalize_text(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


@dataclass(frozen=True)
class RegexMatch(RuleGrader):
    """Scores 1 where a regular expression matches the response, else 0; no score where the search takes too long."""

    pattern: str
    """The expression, in the syntax of the package `regex`; searched in the first 100,000 characters for a second."""
    critique: str
    """The critique of a response that fails, worded as a hint."""
    whole: bool = False
    """True: the whole response must match. False: a part of it is enough."""
    wanted: bool = True
    """False: the expression must not match."""
    name: str = "pattern"
    """Name of the score."""

    def __post_init__(self) -> None:
        patterns.compile_pattern(self.pattern)

    def grade(self, episode: Episode) -> Episode:
        """Adds one `Feedback` under `name`."""
        try:
            found = patterns.search(self.pattern, episode.response, self.whole) is not None
        except TimeoutError as slow:
            warn_ungraded(str(slow))
            return episode
        good = found == self.wanted
        return episode.add_feedback(build_rule_feedback(self.name, float(good), None if good else self.critique))
