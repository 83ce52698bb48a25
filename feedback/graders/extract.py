"""Which part of a response is the answer: functions from a response to the text that a verifier compares, or None."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from feedback.graders import patterns

Extract = Callable[[str], str | None]
"""Finds the answer in a response; None where it holds none."""
CONFIDENCE_PATTERN = re.compile(
    r"(?<!\w)confidence(?:[ \t]+(?:level|score))?[ \t*_]*[:=][ \t*_]*"
    r"(?P<value>[-+]?(?:\d+(?:\.\d*)?|\.\d+)[ \t]*%?)(?![\w%]|[.,/]\d)",
    re.IGNORECASE | re.ASCII,
)
"""The word, a colon or an equals sign, and one number: `Confidence: 70%`."""


def extract_response(response: str) -> str | None:
    """The whole response, except for what states a confidence: that is about the answer, not part of it."""
    kept = []
    end = 0
    for start, _, _, after in find_spans(response, "confidence"):
        kept.append(response[end:start])
        end = after
    return CONFIDENCE_PATTERN.sub("", "".join([*kept, response[end:]]))


def extract_boxed(response: str) -> str | None:
    r"""What stands in the last `\boxed{...}`, braces balanced."""
    start = response.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 1
    begin = start + len(r"\boxed{")
    for place in range(begin, len(response)):
        depth += {"{": 1, "}": -1}.get(response[place], 0)
        if depth == 0:
            return response[begin:place]
    return None


@dataclass(frozen=True)
class TagExtractor:
    """What stands in the last closed pair of a tag, as `<answer>33</answer>`."""

    tag: str = "answer"
    """Name of the tag, in any case."""

    def __call__(self, response: str) -> str | None:
        return extract_tag(response, self.tag)


@dataclass(frozen=True)
class RegexExtractor:
    """What a regular expression captures where it matches last: its group `answer`, else its first, else all of it."""

    pattern: str
    """The expression, in the syntax of the package `regex`; searched in the last 100,000 characters for a second."""

    def __post_init__(self) -> None:
        patterns.compile_pattern(self.pattern)

    def __call__(self, response: str) -> str | None:
        """Raises TimeoutError where the search takes too long."""
        match = patterns.find_last(self.pattern, response)
        if match is None:
            return None
        return match["answer"] if "answer" in match.groupdict() else match[1 if match.re.groups else 0]


def find_spans(text: str, tag: str) -> list[tuple[int, int, int, int]]:
    """Where each closed pair of `tag` begins, its content begins, its content ends, and it ends.

    A pair is an opening and the next closing after it; an opening that is opened again before is not one.
    """
    pieces = re.finditer(rf"<(/?){re.escape(tag)}>", text, re.IGNORECASE)
    return [(one.start(), one.end(), two.start(), two.end()) for one, two in pairwise(pieces) if not one[1] and two[1]]


def extract_tag(text: str, tag: str) -> str | None:
    """The content of the last closed pair of `tag`, None where there is none."""
    found = find_spans(text, tag)
    return text[found[-1][1] : found[-1][2]] if found else None
