"""Which characters of a turn each of its token ids wrote: found by decoding the ids, never by making ids from text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WINDOW = 16
"""Ids decoded together once all before them is settled."""


def compute_offsets(ids: Sequence[int], text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """The characters ``(start, end)`` of ``text`` that each id took part in; empty for a special token.

    ``text`` is what the ids decode to without special tokens. Ids that write one letter between them (bytes of an
    emoji) all have the span of that letter, and of what was written along with it.

    Raises:
        ValueError: where the ids do not decode to this text.
    """
    ends = _find_ends(ids, text, tokenizer, WINDOW)
    if ends[-1:] != [len(text)] and text:
        # Some decoders look further back than a window.
        ends = _find_ends(ids, text, tokenizer, len(ids))
    if text and ends[-1:] != [len(text)]:
        raise ValueError(f"offsets: got ids that write {ends[-1] if ends else 0} of the text's {len(text)} characters")
    special = set(tokenizer.all_special_ids)
    spans = []
    later = len(text)
    for index in reversed(range(len(ids))):
        start = ends[index - 1] if index else 0
        # An id that settled no letter shares the next one's.
        later = ends[index] if ends[index] > start else later
        spans.append((start, start) if ids[index] in special else (start, max(start, later)))
    return spans[::-1]


def _find_ends(ids: Sequence[int], text: str, tokenizer: Any, window: int) -> list[int]:
    """For each id, the characters of the text that are settled once it is written."""

    def decode_range(first: int, last: int) -> str:
        return tokenizer.decode(list(ids[first:last]), skip_special_tokens=True)

    ends: list[int] = []
    # The window's first id, its first unsettled one, the characters before that, and those of them in the window.
    behind = begin = settled = known = 0
    for index in range(len(ids)):
        written = decode_range(behind, index + 1)[known:]
        same = _count_common(written, text, settled)
        ends.append(max(settled + same, ends[-1] if ends else 0))
        if index + 1 - begin >= window and same == len(written):
            behind = max(0, index + 1 - window // 4)
            begin = index + 1
            settled += same
            known = len(decode_range(behind, begin))
    return ends


def _count_common(written: str, text: str, start: int) -> int:
    """How many letters of ``written`` are the text's, from ``start`` on."""
    if text.startswith(written, start):
        return len(written)
    pairs = zip(written, text[start : start + len(written)], strict=False)
    return next((n for n, (one, two) in enumerate(pairs) if one != two), min(len(written), len(text) - start))
