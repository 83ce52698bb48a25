"""Regular expressions from a config, run on text that strangers write: a pattern that never ends must not hang a run.

Python's own `re` cannot be stopped, so these run in the `regex` package with a time limit, on at most `LONGEST`
characters. What takes longer stays ungraded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

LONGEST = 100_000
"""Characters of a text that are searched; what follows is not looked at."""
SECONDS = 1.0
"""Longest time of one search [s of processor time, as `regex` counts it: a busy machine changes no verdict]."""


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Any:
    """The compiled pattern.

    Raises:
        ValueError: where it is no regular expression.
    """
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as fault:
        raise ValueError(f"pattern: got {pattern!r}, expected a regular expression: {fault}") from fault


def search(pattern: str, text: str, whole: bool = False) -> Any:
    """The first match of `pattern` in `text` (or with `whole`, of all of it), None where there is none.

    Raises:
        TimeoutError: where the search took longer than `SECONDS`.
    """
    found = compile_pattern(pattern)
    with _limit_time(pattern):
        return (found.fullmatch if whole else found.search)(text[:LONGEST], timeout=SECONDS)


def find_last(pattern: str, text: str) -> Any:
    """The last match of `pattern` in `text`, None where there is none.

    Raises:
        TimeoutError: as `search`.
    """
    with _limit_time(pattern):
        found = deque(compile_pattern(pattern).finditer(text[-LONGEST:], timeout=SECONDS), maxlen=1)
    return found[0] if found else None


def find_all(pattern: str, text: str) -> list[Any]:
    """All matches of `pattern` in `text` that hold a character, in order.

    Raises:
        TimeoutError: as `search`.
    """
    with _limit_time(pattern):
        found = compile_pattern(pattern).finditer(text[:LONGEST], timeout=SECONDS)
        return [match for match in found if match.group()]


@contextmanager
def _limit_time(pattern: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as slow:
        remedy = "Use one without nested repetition"
        raise TimeoutError(f"pattern {pattern!r}: given up after {SECONDS:g} s. {remedy}") from slow
