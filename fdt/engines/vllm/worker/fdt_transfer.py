"""Runs inside vLLM: weights that the trainer holds in memory that this process maps. vLLM imports it by name, and no
more of fdt.

It is a backend of vLLM's own weight transfer (``--weight-transfer-config '{"backend": "fdt"}'``). vLLM's backend for
one machine, ``ipc``, wants cards, and pickles from whoever reaches the port.
"""

from dataclasses import dataclass
from typing import Any

from fdt_worker import map_memory, read_card, read_entry, renew_tied_head
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine


@dataclass
class Bucket(WeightTransferUpdateInfo):
    """Some of the weights."""

    entries: list[dict[str, Any]]
    """Of each: name, dtype, shape and the first byte in the memory."""
    places: dict[str, dict[str, Any]]
    """For each card, or ``cpu``, how its memory is mapped."""


class MappedTransfer(IPCWeightTransferEngine):
    """Reads weights from memory that the trainer filled, and lets go of it."""

    init_info_cls = WeightTransferInitInfo
    update_info_cls = Bucket

    def init_transfer_engine(self, init_info: WeightTransferInitInfo) -> None:
        """There is nothing to agree on beforehand."""

    def receive_weights(self, update_info: Bucket) -> None:
        memory = map_memory(update_info.places[read_card(self.device)], self.device)
        # Copies: vLLM keeps what it is given until a layer is whole, and the trainer fills the memory again.
        found = [(entry["name"], read_entry(memory, entry)) for entry in update_info.entries]
        del memory
        self.model.load_weights(found)

    def finish_weight_update(self) -> None:
        super().finish_weight_update()
        renew_tied_head(self.model)
