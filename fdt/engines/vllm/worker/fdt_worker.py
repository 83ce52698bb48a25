"""Runs inside vLLM: takes whole weights, also those that vLLM leaves out. vLLM imports it by name, and no more of fdt.

On a CPU, vLLM 0.32 keeps a packed copy of each matrix. Its own ``reload_weights`` packs anew what it read; a head that
is tied to the embedding is not read by itself, so the copy of the old one would go on answering.
"""

import base64
from importlib.util import find_spec
from typing import Any

import torch
from torch.multiprocessing import reductions


def renew_tied_head(model: Any) -> None:
    """Packs anew what vLLM's reloading left packed as it was."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        # Where the copy is all that is left of a matrix, it was read, and packed anew.
        if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
            module.quant_method.process_weights_after_loading(module)


def read_card(device: Any) -> str:
    """The name of a worker's card that every process knows it by, or ``cpu``."""
    if device.type != "cuda":
        return "cpu"
    return str(torch.cuda.get_device_properties(device).uuid)


def read_entry(memory: torch.Tensor, entry: dict[str, Any]) -> torch.Tensor:
    """A copy of one tensor."""
    dtype = getattr(torch, entry["dtype"])
    shape = torch.Size(entry["shape"])
    size = shape.numel() * dtype.itemsize
    return memory[entry["start"] : entry["start"] + size].view(dtype).view(shape).clone()


def map_memory(place: dict[str, Any], device: torch.device) -> torch.Tensor:
    """The memory [bytes] uint8: the host's, from where it is opened, or a card's, from its IPC handle."""
    if "path" in place:
        return torch.from_file(place["path"], shared=True, size=place["size"], dtype=torch.uint8)
    fields = [base64.b64decode(one) if isinstance(one, str) else one for one in place["handle"]]
    size, offset = (place["size"],), place["offset"]
    return reductions.rebuild_cuda_tensor(
        torch.Tensor, size, (1,), offset, torch.storage.TypedStorage, torch.uint8, device.index, *fields
    )


class Reload:
    """A worker extension (vLLM's ``--worker-extension-cls fdt_worker.Reload``)."""

    def fdt_reload(self: Any, path: str) -> None:  # vLLM mixes this class into its worker
        """Reads the whole model's weights from a folder."""
        self.reload_weights(weights_path=path)
        renew_tied_head(self.get_model())

    def fdt_read_card(self: Any) -> dict[str, str]:
        """Whose memory this worker can map."""
        return {"card": read_card(self.device)}


if find_spec("vllm") is not None and __name__ == "fdt_worker":  # the server's: its PYTHONPATH leads here
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    WeightTransferEngineFactory.register_engine("fdt", "fdt_transfer", "MappedTransfer")
