"""One run a folder: a second one is refused while the first is alive, so that neither mixes with the other."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from fdt.errors import UserError

NAME = ".lock"
_held: list[FileLock] = []


def lock_folder(root: Path) -> None:
    """Takes a run's folder until `release_folders`, or until the process ends, however it ends: the operating system
    lets go of the lock.

    Raises:
        UserError: where another process writes to it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "another run is writing to this folder",
            path=root,
            key="trainer.default_root_dir",
            remedy="wait for its end, or name another folder: --trainer.default_root_dir runs/other",
        ) from None
    _held.append(lock)


def release_folders() -> None:
    """Lets go of all folders that this process took."""
    while _held:
        _held.pop().release()
