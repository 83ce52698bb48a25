"""The SHA-256 of data files; a long file that has not changed since it was hashed is not read again."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from fdt.checkpoint_files import hash_file, open_part
from fdt.policy.hub import get_cache_root

LONG = 4 << 20
"""Bytes from which on a file's hash, and what was read from it, is kept."""
SETTLED = 2_000_000_000
"""Nanoseconds after its last change from which on a file's times tell it apart from a later version of itself."""

Stamp = tuple[int, ...]


def get_stamp(path: Path) -> Stamp:
    """What changes with every change of a file: device, inode, size, and the times of the last change of its content
    and of its inode. The system alone sets the last one, so that tools which put times back do not hide a change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_settled(stamp: Stamp) -> bool:
    """Whether the file was left alone for so long that another change cannot bear the same times."""
    return time.time_ns() - max(stamp[3:]) > SETTLED


def hash_data(path: Path) -> str:
    """SHA-256 of a data file's bytes, in hexadecimal; that of a long file is kept under its stamp."""
    stamp = get_stamp(path)
    if stamp[2] < LONG:
        return hash_file(path)
    kept = get_cache_root() / "hashes" / hashlib.sha256(repr(stamp).encode()).hexdigest()
    try:
        known = kept.read_text(encoding="ascii")
    except (OSError, ValueError):
        known = ""
    if len(known) == 64:
        return known
    found = hash_file(path)
    if is_settled(stamp) and get_stamp(path) == stamp:
        with suppress(OSError), open_part(kept) as part:  # a cache that cannot be written is done without
            part.write(found.encode())
    return found
