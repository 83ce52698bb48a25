"""Runs inside vLLM: reads whole weights, also those that vLLM leaves out. vLLM imports it by name, and no more of fdt.

On a CPU, vLLM 0.32 keeps a packed copy of each matrix. Its own ``reload_weights`` packs anew what it read; a head that
is tied to the embedding is not read by itself, so the copy of the old one would go on answering.
"""

from typing import Any


class Reload:
    """A worker extension (vLLM's ``--worker-extension-cls fdt_worker.Reload``)."""

    def fdt_reload(self: Any, path: str) -> None:  # vLLM mixes this class into its worker
        """Reads the whole model's weights from a folder."""
        self.reload_weights(weights_path=path)
        for module in self.get_model().modules():
            weight = getattr(module, "weight", None)
            # Where the copy is all that is left of a matrix, it was read, and packed anew.
            if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
                module.quant_method.process_weights_after_loading(module)
