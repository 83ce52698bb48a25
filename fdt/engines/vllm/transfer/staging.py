"""Memory that a server on this machine maps, so that weights reach it without a file: the card's by CUDA IPC, else the
host's."""

from __future__ import annotations

import base64
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fdt.errors import UserError

HOST = "cpu"
"""What a worker without a card calls its own."""
ALIGNMENT = 256
"""Bytes: each tensor begins at a multiple, as memory that is allocated for it alone would."""


def align(size: int) -> int:
    """The bytes that a tensor takes, with those up to where the next one may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Staging(ABC):
    """A buffer that holds one bucket of weights at a time."""

    buffer: Tensor
    """[bytes] uint8."""

    def fill(self, bucket: Sequence[tuple[str, Tensor]]) -> list[dict[str, Any]]:
        """Copies the tensors into the buffer, one behind the other.

        Returns:
            For each its name, dtype, shape and first byte.
        """
        start, entries = 0, []
        for name, weight in bucket:
            flat = weight.detach().contiguous().view(-1).view(torch.uint8)
            self.buffer[start : start + len(flat)].copy_(flat)
            dtype = str(weight.dtype).removeprefix("torch.")
            entries.append({"name": name, "dtype": dtype, "shape": list(weight.shape), "start": start})
            start += align(len(flat))
        self.finish_copies()
        return entries

    def finish_copies(self) -> None:
        """Waits until the bytes are there."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """How another process maps the buffer, as JSON. What a worker maps it lets go of again, so that each needs a
        description of its own."""

    def close(self) -> None:
        """Gives the memory back."""


class HostStaging(Staging):
    """Memory of this process that another one of the same user opens by its place in ``/proc``. It goes with the
    process, however that ends."""

    def __init__(self, size: int) -> None:
        """
        Args:
            size: bytes.
        """
        self.size = size
        self.number = os.memfd_create("fdt-weights")
        try:
            # Reserved at once: where there is no room, the first write to it would end the process.
            os.posix_fallocate(self.number, 0, size)
        except OSError as fault:
            self.close()
            raise UserError(
                f"no room to hand weights over: {fault.strerror}",
                got=f"{size:,} bytes",
                expected="that much memory free",
                key="data.engine.init_args.weight_transfer",
                remedy="free some, or set weight_transfer: folder and a folder with room",
            ) from None
        self.buffer = torch.from_file(self.path, shared=True, size=size, dtype=torch.uint8)

    @property
    def path(self) -> str:
        """Where the other process opens it."""
        return f"/proc/{os.getpid()}/fd/{self.number}"

    def describe(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size}

    def close(self) -> None:
        os.close(self.number)


class CardStaging(Staging):
    """A card's own memory, by CUDA IPC: the worker on that card reads it without a copy through the host."""

    def __init__(self, size: int, card: torch.device) -> None:
        self.card = card
        self.buffer = torch.empty(size, dtype=torch.uint8, device=card)

    def finish_copies(self) -> None:
        torch.cuda.synchronize(self.card)

    def describe(self) -> dict[str, Any]:
        from torch.multiprocessing.reductions import reduce_tensor

        _, fields = reduce_tensor(self.buffer)
        return pack_handle(fields)


def pack_handle(fields: Sequence[Any]) -> dict[str, Any]:
    """What opens a card's memory, as JSON: no pickle goes to a server.

    Args:
        fields: as `torch.multiprocessing.reductions.rebuild_cuda_tensor` takes them, of a flat uint8 tensor.
    """
    size, offset = int(fields[1][0]), int(fields[3])
    handle = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in fields[7:]]
    return {"size": size, "offset": offset, "handle": handle}


def find_card(uuid: str) -> torch.device | None:
    """The card of this name among those that this process sees."""
    for number in range(torch.cuda.device_count()):
        if str(torch.cuda.get_device_properties(number).uuid) == uuid:
            return torch.device("cuda", number)
    return None


def build_staging(card: str, size: int) -> Staging:
    """A buffer that a worker can map.

    Args:
        card: the worker's: its UUID, or `HOST`.
        size: bytes.

    Raises:
        UserError: where this process does not see the worker's card, or has no room.
    """
    if card == HOST:
        return HostStaging(size)
    place = find_card(card)
    if place is None:
        raise UserError(
            "the server's card cannot be seen from here",
            got=card,
            expected="one of the cards that this run sees",
            key="data.engine.init_args.weight_transfer",
            remedy="name it in CUDA_VISIBLE_DEVICES, or set weight_transfer: folder",
        )
    return CardStaging(size, place)
