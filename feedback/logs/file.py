"""The file of a log: several processes may append to it and read it while it grows.

Lines are written together under a lock, and are on the disk before `append` returns. What a killed process left of a
line was never confirmed to anybody: the next append cuts it off, and readers wait for a line's end.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.faults import DataError
from feedback.logs.judgements import EPISODE, FEEDBACK, Event
from feedback.sanitize import replace_surrogates

BLOCK = 1 << 20


class LogFile:
    """One open log. `append` may be called from one thread at a time; `read_new` keeps its own place in the file."""

    def __init__(self, path: str | Path):
        """Opens or makes the file, readable by its owner alone; raises `DataError` where that fails."""
        self.path = Path(path)
        self.offset = 0
        self.line = 0
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise DataError(str(path), None, "file", error.strerror or str(error), "a file to append to") from None

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, *events: Event) -> None:
        """Writes the lines, all or none of them, and waits until they are on the disk.

        Raises:
            DataError: where the disk is full or fails; the file is then as it was.
            ValueError: a value that JSON cannot hold, NaN among them.
        """
        lines = "".join(map(_to_line, events))
        with self._lock():
            size = self._cut_torn_line()
            try:
                rest = memoryview(lines.encode())
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, size)
                got = error.strerror or str(error)
                raise DataError(str(self.path), None, "file", got, "room for another line") from None

    def read_new(self) -> list[Event]:
        """The lines that were completed since the last call.

        Raises:
            DataError: for a line that no log holds.
        """
        size = os.fstat(self._file).st_size
        if size < self.offset:
            remedy = "A log is only ever appended to; start again on the file as it is."
            raise DataError(str(self.path), None, "file", f"{size} bytes", f"at least {self.offset}", remedy)
        block = b"".join(self._read(self.offset, size))
        whole = block[: block.rfind(b"\n") + 1]
        self.offset += len(whole)
        found = []
        for line in whole.splitlines():
            self.line += 1
            found.append(self._parse(line))
        return found

    def _parse(self, line: bytes) -> Event:
        try:
            event = json.loads(line)
            if event["event"] not in (EPISODE, FEEDBACK):
                raise ValueError("no such event")
        except (ValueError, KeyError, TypeError, RecursionError):
            got = line[:60].decode(errors="replace")
            raise DataError(str(self.path), self.line, "event", got, "an episode or feedback, as fdt writes") from None
        return event

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            part = os.pread(self._file, min(BLOCK, end - start), start)
            if not part:
                return
            start += len(part)
            yield part

    def _cut_torn_line(self) -> int:
        """Drops what stands after the last line's end; the size of what is left."""
        size = os.fstat(self._file).st_size
        end = size
        while end and os.pread(self._file, 1, end - 1) != b"\n":
            start = max(0, end - BLOCK)
            place = os.pread(self._file, end - start, start).rfind(b"\n")
            end = start + place + 1
            if place >= 0:
                break
        if end < size:
            os.ftruncate(self._file, end)
        return end

    @contextmanager
    def _lock(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def is_log(path: str | Path) -> bool:
    """Whether the file's first line is a log's; False for what cannot be read and for an empty file."""
    try:
        with open(path, "rb") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.get("event") == EPISODE and "messages" in first


def write_log(path: str | Path, events: Iterable[Event]) -> None:
    """A new file with these lines; an existing one is replaced. Nothing waits for the disk."""
    with open(path, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(map(_to_line, events))


def _to_line(event: Event) -> str:
    return replace_surrogates(json.dumps(event, ensure_ascii=False, allow_nan=False)) + "\n"
