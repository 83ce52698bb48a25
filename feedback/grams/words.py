"""Word n-grams of a text with their places, and a list of strategic ones found again (HICRA, arXiv 2509.03646)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from feedback.faults import DataError, format_value

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
STOP = re.compile(r"[.!?;\n\d=+*/^<>|\\${}]")
"""No gram goes over one of these. The end of a sentence does not belong to the beginning of the next, and numbers and
formulas are what is carried out: in GSM8K's solutions "2 6 2" would be among the commonest grams."""


@dataclass(frozen=True)
class GramMatch:
    """One gram in a text: its words, and the characters `start` to `end` that they take."""

    gram: str
    start: int
    end: int


def normalize_words(text: str) -> str:
    """The words of a text as grams compare them: lower case, one blank between two, straight apostrophes."""
    return " ".join(word[0].casefold().replace("’", "'") for word in WORD.finditer(text))


def split_sentences(text: str) -> Iterator[list[re.Match[str]]]:
    """The words of each sentence, in order."""
    held: list[re.Match[str]] = []
    for word in WORD.finditer(text):
        if held and STOP.search(text, held[-1].end(), word.start()):
            yield held
            held = []
        held.append(word)
    if held:
        yield held


def extract_ngrams(text: str, lengths: Iterable[int]) -> Iterator[GramMatch]:
    """Every n-gram of words within a sentence, for each n of `lengths`, with its place."""
    lengths = tuple(lengths)
    for words in split_sentences(text):
        plain = [normalize_words(word[0]) for word in words]
        for n in lengths:
            for first in range(len(words) - n + 1):
                last = first + n
                yield GramMatch(" ".join(plain[first:last]), words[first].start(), words[last - 1].end())


class Grams:
    """A list of grams, of any numbers of words, to be found in texts whatever their case and punctuation."""

    def __init__(self, grams: Iterable[str]) -> None:
        self.grams = frozenset(filter(None, map(normalize_words, grams)))
        self.lengths = sorted({gram.count(" ") + 1 for gram in self.grams})

    def find_spans(self, text: str) -> list[GramMatch]:
        """Each place where a gram stands; they may overlap."""
        return [found for found in extract_ngrams(text, self.lengths) if found.gram in self.grams]


@lru_cache(maxsize=8)
def load_grams(path: str | Path) -> Grams:
    """The grams of a file that `fdt grams` wrote, or of a JSON list of phrases.

    Raises:
        DataError: no such file, not JSON, or no grams in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise DataError(path, None, "file", "nothing there", "a file", "Check the path.") from None
    except ValueError as error:
        raise DataError(path, None, "file", f"bad JSON ({error})", "what `fdt grams` writes") from None
    given = content.get("grams") if isinstance(content, dict) else content
    grams = Grams(_read_phrase(path, item) for item in given) if isinstance(given, list) else None
    if grams is None or not grams.grams:
        raise DataError(
            path, None, "grams", format_value(given), "a list that is not empty of phrases, or of objects with `gram`"
        )
    return grams


def _read_phrase(path: str | Path, item: Any) -> str:
    phrase = item.get("gram") if isinstance(item, dict) else item
    if not isinstance(phrase, str) or not normalize_words(phrase):
        raise DataError(path, None, "grams", format_value(item), "a phrase, or an object whose `gram` is one")
    return phrase
