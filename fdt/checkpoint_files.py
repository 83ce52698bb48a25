"""Checkpoints on disk: written whole or not at all, listed with their SHA-256, and checked before they are read.

A checkpoint is a file, or a folder of shards. ``manifest.json`` beside them lists them in the order of writing, each
entry before its checkpoint gets its name, so that no whole one ever lacks its entry. No torch is imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdt.errors import UserError

MANIFEST = "manifest.json"
CHUNK = 1 << 20
"""Bytes of a file that are read at once."""
KEPT = 64
"""Entries of checkpoints that are gone which a manifest keeps: another name may still hold their bytes."""
_checked: dict[tuple[str, int, int, int], str | None] = {}


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    name: str
    """Of the file or folder, beside the manifest."""
    sha256: str
    """Of its bytes, or of the list of its files with their hashes; see `hash_checkpoint`."""
    step: int
    """Optimiser steps that it holds."""


def read_manifest(folder: Path) -> list[Entry]:
    """The checkpoints that were written into a folder, the oldest first; none where it has no manifest.

    Raises:
        ValueError: where the manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Entry(str(item["name"]), str(item["sha256"]), int(item["step"])) for item in found["checkpoints"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ValueError(f"{path} cannot be read: {fault}") from fault


def add_entry(folder: Path, entry: Entry) -> None:
    """Adds a checkpoint to the manifest of its folder; of those that are gone the newest `KEPT` stay."""
    try:
        entries = read_manifest(folder)
    except ValueError as fault:
        warn(f"{fault}; it is written anew, and what it listed is checked by its own sums")
        entries = []
    dropped = [item for item in entries if not (folder / item.name).exists()][:-KEPT]
    kept = [item for item in entries if item not in dropped and item != entry]
    text = json.dumps({"format": 1, "checkpoints": [asdict(item) for item in [*kept, entry]]}, indent=1)
    with open_part(folder / MANIFEST) as part:
        part.file.write(text.encode() + b"\n")


class Part:
    """A file beside its target, hashed while it is written; it gets its name when all of it is on the disk."""

    def __init__(self, target: Path, before_rename: Callable[[str], None] | None = None) -> None:
        """
        Args:
            target: the name that the file gets; its folder is made.
            before_rename: called with the SHA-256 of what was written, before the file gets its name.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        self.target = target
        self.path = name_part(target)
        self.before_rename = before_rename
        self.sum = hashlib.sha256()
        self.file = self.path.open("wb", buffering=0)

    def write(self, data: Any) -> int:
        """Takes bytes, in order; all of them or an OSError."""
        view = memoryview(data).cast("B")
        self.sum.update(view)
        done = 0
        while done < len(view):
            done += self.file.write(view[done:]) or 0
        return done

    def flush(self) -> None:
        """Nothing waits in a buffer here."""

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                if self.before_rename is not None:
                    self.before_rename(self.sum.hexdigest())
                replace_checkpoint(self.path, self.target)
        finally:
            self.file.close()
            self.path.unlink(missing_ok=True)


def open_part(target: Path, before_rename: Callable[[str], None] | None = None) -> Part:
    """A file to write beside ``target``, which takes its place whole when the ``with`` ends without an error."""
    return Part(target, before_rename)


def name_part(target: Path) -> Path:
    """Where this process writes what shall become ``target``."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def sync_path(path: Path) -> None:
    """Brings a folder's names, or a file's content, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def link_checkpoint(source: Path, target: Path) -> bool:
    """Gives a checkpoint a second name, its bytes once on the disk; False where the file system has no such links."""
    part = name_part(target)
    remove(part)
    try:
        if source.is_dir():
            shutil.copytree(source, part, copy_function=os.link)
        else:
            os.link(source, part)
    except (OSError, shutil.Error):
        remove(part)
        return False
    replace_checkpoint(part, target)
    return True


def replace_checkpoint(part: Path, target: Path) -> None:
    """Gives a finished file or folder its name. A folder cannot take another's place in one step: for a moment there is
    none of this name, and a kill just then leaves the others."""
    if target.exists() and (target.is_dir() or part.is_dir()):
        aside = target.with_name(f".{target.name}.{os.getpid()}.old.part")
        remove(aside)
        os.replace(target, aside)
        os.replace(part, target)
        remove(aside)
    else:
        os.replace(part, target)
    sync_path(target.parent)


def finish_folder(part: Path, target: Path, step: int) -> None:
    """Brings a folder of shards that all ranks have written to the disk, lists it, and gives it its name.

    Args:
        part: the folder as it was written; see `name_part`.
        target: the name that it gets.
        step: optimiser steps that it holds.
    """
    for path in [*part.rglob("*"), part]:
        sync_path(path)
    add_entry(target.parent, Entry(target.name, hash_checkpoint(part), step))
    replace_checkpoint(part, target)


def remove(path: Path) -> None:
    """Removes a file or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Removes what kills left half written; only the one process that may write to the folder may call."""
    for path in folder.glob(".*.part"):
        remove(path)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_checkpoint(path: Path) -> str:
    """SHA-256 of a file, or of a folder's list of files: for each, in order, its path within and its own SHA-256."""
    if not path.is_dir():
        return hash_file(path)
    found = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        found.update(f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n".encode())
    return found.hexdigest()


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None where it is whole.

    It is held against the manifest beside it. One that no manifest lists (moved, or of an older version) is checked by
    the sums (CRC-32) that its file holds of its parts.
    """
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
    if path.is_dir() or key not in _checked:
        _checked[key] = _compare_with_manifest(path)
    return _checked[key]


def _compare_with_manifest(path: Path) -> str | None:
    try:
        entries = read_manifest(path.parent)
    except ValueError as fault:
        warn(f"{fault}; {path.name} is checked by its own sums alone")
        entries = []
    if not (listed := [entry.sha256 for entry in entries if entry.name == path.name]):
        return None if path.is_dir() else _check_sums(path)
    found = hash_checkpoint(path)
    # Any entry will do: a name may hold the bytes of another for as long as a kill leaves it so.
    if found in {entry.sha256 for entry in entries}:
        return None
    return f"its SHA-256 is {found[:16]}…, {MANIFEST} says {listed[-1][:16]}…"


def _check_sums(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError) as fault:
        return f"it cannot be read ({' '.join(str(fault).split())})"
    return None if broken is None else f"{broken} in it has another sum than was written"


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run that it may go on from, the newest first; one with two names is there once."""
    order: dict[str, int] = {}
    with suppress(ValueError):  # a damaged manifest is told where a checkpoint is checked
        order = {entry.name: place for place, entry in enumerate(read_manifest(folder))}
    paths = [*folder.glob("step-*.ckpt"), *folder.glob("last.ckpt")]
    paths.sort(key=lambda path: (order.get(path.name, -1), path.stat().st_mtime_ns), reverse=True)
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        status = (path if not path.is_dir() else next((p for p in path.rglob("*") if p.is_file()), path)).stat()
        found.setdefault((status.st_dev, status.st_ino), path)
    return list(found.values())


def find_newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run; damaged ones are told. None where there is none at all.

    Raises:
        UserError: where there are some, and all are damaged.
    """
    damaged: list[str] = []
    for path in list_checkpoints(folder):
        if (reason := find_damage(path)) is None:
            if damaged:
                warn(f"damaged, and left alone: {'; '.join(damaged)}. Going on from {path.name}, the newest whole one")
            return path
        damaged.append(f"{path}: {reason}")
    if damaged:
        raise build_error(folder, damaged, [])
    return None


def check_whole(path: Path) -> None:
    """
    Raises:
        UserError: where a checkpoint is damaged; names those beside it that are whole.
    """
    if (reason := find_damage(path)) is not None:
        others = [other for other in list_checkpoints(path.parent) if other != path and find_damage(other) is None]
        raise build_error(path, [reason], others)


def build_error(path: Path, reasons: Iterable[str], whole: list[Path]) -> UserError:
    """The message about damaged checkpoints."""
    remedy = f"this one is whole: --ckpt_path {whole[0]}" if whole else "start afresh, or bring back a copy"
    return UserError(f"damaged: {'; '.join(reasons)}", path=path, key="ckpt_path", remedy=remedy)


def warn(text: str) -> None:
    """Says something once, whatever the number of processes."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"fdt: {text}", file=sys.stderr, flush=True)
