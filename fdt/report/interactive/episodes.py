"""The episodes of a run for the page's script: a short entry each, and their text and tokens in chunks."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

from fdt.report.interactive.tokens import build_columns, compute_change, compute_disagreement, list_signals
from fdt.report.measures import get_episode_key, get_number, get_tokens
from fdt.report.panels.samples import as_text
from fdt.report.runs import TRANSCRIPTS, Record
from fdt.report.sanitize import make_legible

CHUNK = 100
"""Episodes that the page reads at once."""
SNIPPET = 90
"""Characters of the prompt in the list."""
ACCEPTED = "accepted"
UNASKED = (None, "", "no critique")
"""A rewrite's status where none was asked for."""
TEXTS = (
    *("prompt", "messages", "response", "critique", "critique_by", "teacher_prompt"),
    *("revision", "revision_status", "conversation", "ended", "coefficients", "scores", "skills"),
)
"""What of a transcript the page shows as it is."""


class EpisodeFile:
    """The transcripts of one run: entries are kept, text and tokens are read again when they are asked for."""

    def __init__(self, path: Path) -> None:
        """`path`: the run's ``transcripts.jsonl``; it need not be there yet."""
        self.path = path
        self.entries: list[dict[str, Any] | None] = []
        """One an episode; None for one that a resumed run wrote again."""
        self.spans: list[tuple[int, int]] = []
        """First byte and length of each episode's line."""
        self._places: dict[tuple[float, str], int] = {}
        self._end = 0

    @classmethod
    def of_run(cls, folder: Path) -> EpisodeFile:
        """The episodes of a run's folder, as far as they are written."""
        found = cls(folder / TRANSCRIPTS)
        found.refresh()
        return found

    def refresh(self) -> bool:
        """Reads what was added; a file that became shorter is read anew. Returns whether anything changed."""
        if not self.path.exists():
            return False
        size = self.path.stat().st_size
        if size < self._end:
            self.__init__(self.path)  # type: ignore[misc]  # the file was cut: nothing known about it holds
        before = len(self.entries)
        with self.path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._add(line)
        return len(self.entries) != before

    def _add(self, line: bytes) -> None:
        start = self._end
        self._end += len(line)
        record = _parse(line)
        if record is None:
            return
        key = get_episode_key(record)
        former = self._places.get(key)
        if former is not None:
            self.entries[former] = None
        self._places[key] = len(self.entries)
        self.spans.append((start, len(line)))
        self.entries.append(build_entry(record))

    def count_chunks(self) -> int:
        """How many chunks there are, the last one perhaps not full."""
        return -(-len(self.entries) // CHUNK)

    def read_chunk(self, number: int) -> list[dict[str, Any] | None]:
        """Text and tokens of the episodes of a chunk; None for one that was written again."""
        first = number * CHUNK
        found: list[dict[str, Any] | None] = []
        if not 0 <= first < len(self.entries):
            return found
        with self.path.open("rb") as file:
            for entry, (start, length) in zip(self.entries[first:], self.spans[first : first + CHUNK], strict=False):
                file.seek(start)
                record = None if entry is None else _parse(file.read(length))
                found.append(None if record is None else build_detail(record))
        return found


def build_entry(record: Record) -> dict[str, Any]:
    """What the list shows, and what episodes are sorted and filtered by; null where a record does not say."""
    tokens = get_tokens(record)
    status = record.get("revision_status")
    asked = status not in UNASKED
    length = len(tokens) if tokens else len(str(record.get("response") or "").split())
    return {
        "id": make_legible(str(record.get("id"))),
        "step": _number(record, "step"),
        "score": _number(record, "score"),
        "advantage": _number(record, "advantage"),
        "length": length,
        "who": [make_legible(name) for name in list_authors(record)],
        "refused": bool(asked and status != ACCEPTED),
        "critique": bool(record.get("critique")),
        "tokens": bool(tokens),
        "turns": _number(record, "turns"),
        "change": compute_change(tokens),
        "disagreement": compute_disagreement(tokens),
        "snippet": make_legible(" ".join(as_text(record.get("prompt")).split())[:SNIPPET]),
    }


def build_detail(record: Record) -> dict[str, Any]:
    """Everything that is shown of an opened episode, its text legible."""
    found = {name: _make_legible(record[name]) for name in TEXTS if record.get(name) is not None}
    tokens = get_tokens(record)
    return found | ({"tokens": build_columns(tokens), "signals": list_signals(tokens)} if tokens else {})


def list_authors(record: Record) -> list[str]:
    """Who criticised the answer, each once: the annotator, or the source where none is named."""
    given = record.get("critique_by")
    entries = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    return list(dict.fromkeys(str(entry.get("annotator") or entry.get("source")) for entry in entries))


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None  # named among the problems of the run, which is read line by line as well
    return record if isinstance(record, dict) else None


def _number(record: Record, key: str) -> float | None:
    value = get_number(record, key)
    return value if isfinite(value) else None


def _make_legible(value: Any) -> Any:
    if isinstance(value, str):
        return make_legible(value)
    if isinstance(value, list):
        return [_make_legible(item) for item in value]
    if isinstance(value, dict):
        return {make_legible(str(key)): _make_legible(item) for key, item in value.items()}
    return value if not isinstance(value, float) or isfinite(value) else None
