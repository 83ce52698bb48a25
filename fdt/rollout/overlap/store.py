"""Finished rollouts in the run folder: a resumed run learns from the same answers, and judges none of them twice.

``rollouts/N-rank-R.msgpack`` holds one rank's share of rollout N (`FinishedRollout`). A file is written beside its
place, flushed to disk and renamed: a kill leaves all of it or nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from fdt.rollout.dynamic_sampling import SampledRollout
from feedback.logs.durable import write_whole
from feedback.types import Episode


class FinishedRollout(msgspec.Struct):
    """One rank's share of a rollout, judged, and what its making counted."""

    number: int
    """Rollouts of the run before it."""
    version: int
    """Rollouts that the policy had learned from when its weights sampled this one."""
    weights: str
    """Digest of those weights, or of this rank's part of them."""
    key: str
    """What else decides about the answers: the seed, the rank and their number."""
    seconds: float
    """What sampling and judging took."""
    episodes: list[Episode]
    kept: list[bool]
    """Which of the episodes the policy gradient trains on."""
    info: dict[str, float] = {}
    rejections: dict[str, int] = {}
    """Of rewrites, by reason."""
    episode_counts: dict[str, int] = {}
    """How the episodes ended."""
    truncated: dict[str, int] = {}
    """What hints lost, by reason."""

    @property
    def sampled(self) -> SampledRollout:
        """The rollout as its source made it."""
        return SampledRollout(self.episodes, torch.tensor(self.kept, dtype=torch.bool), self.info)


@dataclass
class RolloutStore:
    """The files of one rank.

    Args:
        folder: where they lie.
        rank: whose they are.
        key: as `FinishedRollout.key`.
    """

    folder: Path
    rank: int
    key: str
    digests: dict[int, str] = field(default_factory=dict)
    """SHA-256 of each file that was written or read."""

    def write(self, finished: FinishedRollout) -> FinishedRollout:
        """Keeps a rollout; returns it as it will be read again."""
        data = msgspec.msgpack.encode(finished)
        write_whole(self._get_path(finished.number), data)
        self.digests[finished.number] = hashlib.sha256(data).hexdigest()
        return _decode(data)

    def read(self, number: int, weights: str, expected: str | None) -> FinishedRollout | None:
        """The rollout of this number; None where there is none that fits.

        Args:
            weights: digest of the present weights, which must have sampled it.
            expected: SHA-256 of the file that a checkpoint asks for, whatever weights sampled it; None asks for none.
        """
        try:
            data = self._get_path(number).read_bytes()
            found = _decode(data)
        except (OSError, msgspec.MsgspecError):
            return None
        digest = hashlib.sha256(data).hexdigest()
        fits = found.weights == weights if expected is None else digest == expected
        if not fits or found.key != self.key or found.number != number:
            return None
        self.digests[number] = digest
        return found

    def remove_before(self, number: int) -> None:
        """Removes the files of rollouts that no checkpoint can ask for any more."""
        for path in self.folder.glob(f"*-rank-{self.rank}.msgpack"):
            prefix = path.name.partition("-")[0]
            if prefix.isdigit() and int(prefix) < number:
                path.unlink(missing_ok=True)

    def _get_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}-rank-{self.rank}.msgpack"


def _decode(data: bytes) -> FinishedRollout:
    return msgspec.msgpack.decode(data, type=FinishedRollout)


def describe_settings(**settings: Any) -> str:
    """Settings as one line, for `FinishedRollout.key`."""
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items()))
