"""Which ids of a file occur twice, found in eight bytes a record: ten million rows fit into a tenth of a gigabyte."""

from __future__ import annotations

from array import array


class IdIndex:
    """The ids of a file: noted in a first pass as 64-bit hashes, so that the second keeps only those that may repeat.

    Without a first pass every id is kept.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._doubtful: set[int] | None = None
        self._lines: dict[str, int] = {}

    def add_id(self, id: str) -> None:
        """Notes an id of the first pass."""
        self._hashes.append(hash(id))

    def keep_repeated(self) -> None:
        """Ends the first pass: keeps the hashes that occur more than once, and forgets the others."""
        import numpy as np  # not worth its import where a file is only detected

        hashes = np.frombuffer(self._hashes, np.int64)
        hashes.sort()
        self._doubtful = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        del hashes
        self._hashes = array("q")

    def find_duplicate(self, id: str, line: int) -> int | None:
        """The line where an id stood before; None where it is new."""
        if self._doubtful is not None and (not self._doubtful or hash(id) not in self._doubtful):
            return None
        if id in self._lines:
            return self._lines[id]
        self._lines[id] = line
        return None
