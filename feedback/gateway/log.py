"""What was sent and what came back: one append-only file of JSON lines that processes and ranks may share.

A line is written *before* a call ("sent": who, how many tokens at most) and one after it ("reply", or "failed"). So the
file is the cache, the ledger of the budget, and the list of calls that somebody else has under way, and it needs no
repair after `kill -9`: a line that was not finished is skipped, and a call whose sender died is sent again.

Lines reach the kernel at once, so they outlive the process. `flush` brings them to the disk, for a power cut.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.faults import DataError
from feedback.gateway.budget import Budget
from feedback.gateway.types import Reply, Usage
from feedback.sanitize import replace_surrogates

NAME = "calls.jsonl"


@dataclass(frozen=True)
class Event:
    """One line of the log."""

    kind: str
    """sent, reply or failed."""
    key: str
    """Of the request."""
    by: str = ""
    """Who sent it."""
    usage: Usage = Usage()
    """Tokens: reserved where it was sent, taken where it was answered."""
    paid: bool = True
    """Whether a call that failed may have been charged."""

    @classmethod
    def read(cls, line: bytes) -> Event:
        """Raises ValueError, KeyError or TypeError for a line that no log holds."""
        found = json.loads(line)
        kind = found["event"]
        key = found["key"]
        if kind == "failed":
            return cls(kind, key, paid=bool(found["paid"]))
        usage = Usage(found["prompt"], found["completion"])
        if kind not in ("sent", "reply") or not all(type(count) is int for count in (usage.prompt, usage.completion)):
            raise ValueError("no event of a log")
        if kind == "reply" and not (isinstance(found["text"], str) and "finish" in found):
            raise ValueError("a reply without text")
        return cls(kind, key, found["by"] if kind == "sent" else "", usage)


def describe_fault(error: Exception) -> str:
    """What is wrong with a line, in a few words."""
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return "no JSON" if isinstance(error, UnicodeDecodeError | json.JSONDecodeError | RecursionError) else "no event"


class CallLog:
    """The calls of one folder. Not for several threads at once; processes may share the folder."""

    def __init__(self, folder: str | Path):
        """Opens or makes the folder; raises `DataError` where that fails."""
        self.folder = Path(folder).expanduser()
        self.path = self.folder / NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            # Whoever holds the lock on a file of this name is alive: a pid would be given to others later.
            self.name = secrets.token_hex(8)
            self.lock_file = os.open(self._get_lock_path(self.name), os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self.lock_file, fcntl.LOCK_EX)
        except OSError as error:
            raise DataError(str(folder), None, "cache", str(error), "a folder that can be written") from None
        self.close = weakref.finalize(
            self, _close_files, os.getpid(), self.file, self.lock_file, self._get_lock_path(self.name)
        )
        self.offset = 0
        self.reply_offsets: dict[str, tuple[int, int]] = {}  # replies: key -> where the line starts, its bytes
        self.pending: dict[str, tuple[str, Usage]] = {}  # calls under way: key -> who, tokens reserved
        self.calls = 0
        self.spent = Usage()  # what was paid for, and what is reserved
        self.num_lines = 0
        self.broken: list[tuple[int, str]] = []  # lines that cannot be read, from 1, and why; see `take_broken`
        self.dirty = False

    def flush(self) -> None:
        """Brings what was written to the disk."""
        if self.dirty:
            self.dirty = False
            os.fsync(self.file)

    def get_reply(self, key: str) -> Reply | None:
        """The reply kept for a key, as far as the file has been read (see `refresh`)."""
        place = self.reply_offsets.get(key)
        if place is None:
            return None
        found = json.loads(os.pread(self.file, place[1], place[0]))
        return Reply(
            replace_surrogates(found["text"]), Usage(found["prompt"], found["completion"]), True, found["finish"]
        )

    def refresh(self) -> None:
        """Takes in the lines that others have added; one that is not finished waits for its end."""
        size = os.fstat(self.file).st_size
        while self.offset < size:
            block = os.pread(self.file, 1 << 24, self.offset)
            whole = block.rfind(b"\n") + 1
            if not whole:
                if len(block) < 1 << 24:
                    return
                raise DataError(str(self.path), None, "cache", "a line of over 16 MiB", "a log of calls")
            at = self.offset
            for line in block[:whole].splitlines(keepends=True):
                self._apply_line(line, at)
                at += len(line)
            self.offset = at

    def claim(self, key: str, reserve: Usage, within: Budget) -> Reply | bool:
        """The reply, where there is one by now; False while another process is asking; True when it is ours to ask.

        In the last case the call and its tokens are on record before this returns. Raises `BudgetExceeded` where they
        could go beyond `within`, or `DataError` where the disk is full.
        """
        with self._lock():
            self.refresh()
            kept = self.get_reply(key)
            if kept is not None:
                return kept
            owner = self.pending.get(key)
            if owner is not None and owner[0] != self.name and self._is_alive(owner[0]):
                return False
            within.check(self.calls + 1, self.spent + reserve, str(self.folder))
            self._append(
                {
                    "event": "sent",
                    "key": key,
                    "by": self.name,
                    "prompt": reserve.prompt,
                    "completion": reserve.completion,
                }
            )
            return True

    def record_reply(self, key: str, reply: Reply) -> None:
        """Puts a reply on record, and what it really took in place of what was reserved."""
        with self._lock():
            self._append(
                {
                    "event": "reply",
                    "key": key,
                    "prompt": reply.usage.prompt,
                    "completion": reply.usage.completion,
                    "finish": reply.finish,
                    "text": reply.text,
                }
            )

    def record_failure(self, key: str, kind: str, charged: bool) -> None:
        """Puts on record that a call failed; where it cannot have been `charged`, its tokens are free again."""
        with self._lock():
            self._append({"event": "failed", "key": key, "kind": kind, "paid": charged})

    def take_broken(self) -> list[tuple[int, str]]:
        """The lines that could not be read and were not taken yet: their numbers from 1, and why."""
        broken, self.broken = self.broken, []
        return broken

    def _apply_line(self, line: bytes, at: int) -> None:
        self.num_lines += 1
        if not line.strip():  # what follows a line that a kill cut off
            return
        try:
            event = Event.read(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:  # a killed process, or a hand that edited
            self.broken.append((self.num_lines, describe_fault(error)))
            return
        if event.kind == "sent":
            self.pending[event.key] = (event.by, event.usage)
            self.calls += 1
            self.spent += event.usage
            return
        claimed = self.pending.pop(event.key, None)
        reserved = Usage() if claimed is None else claimed[1]
        if event.kind == "reply":
            self.reply_offsets[event.key] = (at, len(line))
            self.spent = self.spent - reserved + event.usage
        elif not event.paid and claimed is not None:
            self.spent -= reserved
            self.calls -= 1  # refused, or it never arrived: no call that anybody counts

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=True).encode() + b"\n"
        size = os.fstat(self.file).st_size
        if size and os.pread(self.file, 1, size - 1) != b"\n":
            line = b"\n" + line  # closes the line of a process that was killed while it wrote
        try:
            written = os.write(self.file, line)
        except OSError as error:
            raise DataError(str(self.path), None, "cache", str(error), "room for another line") from None
        if written != len(line):
            raise DataError(str(self.path), None, "cache", "a full disk", "room for another line")
        self.dirty = True
        self.refresh()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)

    def _get_lock_path(self, name: str) -> Path:
        return self.folder / f".alive-{name}"

    def _is_alive(self, name: str) -> bool:
        try:
            life = os.open(self._get_lock_path(name), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._get_lock_path(name).unlink(missing_ok=True)
            return False
        finally:
            os.close(life)


def _close_files(pid: int, file: int, life: int, path: Path) -> None:
    """Closes a log, at the latest when the interpreter ends; claims on calls under way are given up with it."""
    if os.getpid() == pid:
        path.unlink(missing_ok=True)
        os.close(life)
        os.close(file)
