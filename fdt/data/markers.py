"""Further masks of the policy's own tokens, by their text: a marker finds the words, the collator the tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from fdt.data.offset_mapping import compute_offsets
from fdt.data.rows import Row
from fdt.errors import UserError
from feedback.graders import patterns
from feedback.grams import GramMatch, load_grams
from feedback.returns import check_list, refuse

RESERVED_MASKS = ("sampled", "distilled", "imitated", "off_policy", "recalled")
"""Masks that every batch has."""
EXECUTION = "execution"
"""What metrics call the tokens that a marker leaves out."""


class TokenMarker(ABC):
    """Finds the words of a turn whose tokens belong to its mask, ``name``."""

    name: str

    @abstractmethod
    def find_spans(self, text: str) -> list[GramMatch]:
        """The spans of one turn's text that the mask covers; they may overlap."""

    def __call__(self, row: Row, tokenizer: Any) -> tuple[bool, ...]:
        """Of each target id of a row, whether it wrote any character of such a span.

        Turns are read one by one, as their ids decode; forced ids are part of a turn's text and no targets.
        """
        mask: list[bool] = []
        for start, end in row.spans.values():
            mask += compress(self._mask_turn(row.ids[start:end], tokenizer), row.target[start:end])
        return tuple(mask)

    def _mask_turn(self, ids: Sequence[int], tokenizer: Any) -> list[bool]:
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        found = check_list(self, self.find_spans(text), GramMatch, "spans")
        if not found:
            return [False] * len(ids)
        if bad := [span for span in found if not 0 <= span.start <= span.end <= len(text)]:
            raise refuse(self, f"a span from {bad[0].start} to {bad[0].end}", f"one within the {len(text)} characters")
        covered = [False] * len(text)
        for item in found:
            covered[item.start : item.end] = [True] * (item.end - item.start)
        return [any(covered[start:end]) for start, end in compute_offsets(ids, text, tokenizer)]


@dataclass(frozen=True)
class StrategicGrams(TokenMarker):
    """Planning tokens: those inside a strategic gram (HICRA, arXiv 2509.03646), whatever its case.

    A token that holds a letter of a gram and others besides belongs to the mask.
    """

    file: str
    """What `fdt grams` wrote, or a JSON list of phrases."""
    name: str = "planning"
    """Name of the mask."""

    def __post_init__(self) -> None:
        check_name(self.name)
        load_grams(self.file)

    def find_spans(self, text: str) -> list[GramMatch]:
        return load_grams(self.file).find_spans(text)


@dataclass(frozen=True)
class Pattern(TokenMarker):
    """Tokens that a regular expression matches: where plans have a form of their own, no grams need to be mined."""

    pattern: str
    """Read by the package `regex`; the longest search is `feedback.graders.patterns.SECONDS`."""
    name: str = "planning"
    """Name of the mask."""

    def __post_init__(self) -> None:
        check_name(self.name)
        patterns.compile_pattern(self.pattern)

    def find_spans(self, text: str) -> list[GramMatch]:
        return [GramMatch(match.group(), *match.span()) for match in patterns.find_all(self.pattern, text)]


def check_name(name: str) -> None:
    """
    Raises:
        UserError: where a mask's name is one that every batch has, or that metrics use.
    """
    if name in (*RESERVED_MASKS, EXECUTION, ""):
        raise UserError("data.marker.name", got=name, expected="a name of its own, such as planning")
