"""FSDP2 as one word: ``--trainer.strategy fdt.strategies.FSDP2 --trainer.devices N``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from fdt.errors import UserError


class FSDP2(ModelParallelStrategy):
    """Shards weights, gradients and optimiser state over all processes (``fully_shard``).

    Lightning's parent gives all processes of a node to tensor parallelism unless told otherwise, which would leave
    the weights whole and the ranks' gradients unsummed. Checkpoints are written whole, in one file, by default.
    """

    def __init__(self, save_distributed_checkpoint: bool = False, process_group_backend: str | None = None) -> None:
        """
        Args:
            save_distributed_checkpoint: write one folder of shards instead of one file.
            process_group_backend: gloo or nccl; null lets the device decide.
        """
        super().__init__(
            data_parallel_size="auto",
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def check_mesh(strategy: Any) -> None:
    """
    Raises:
        UserError: where a model-parallel strategy splits something else than the data.
    """
    if strategy._tensor_parallel_size != 1:
        raise UserError("tensor parallelism is not supported", got=strategy._tensor_parallel_size, expected=1,
                        remedy="use fdt.strategies.FSDP2", key="trainer.strategy.tensor_parallel_size")  # fmt: skip
