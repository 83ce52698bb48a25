"""FSDP2: which modules are sharded, and how log-probs and generation see whole weights under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from fdt.checkpoint_files import check_whole, finish_folder, name_part
from fdt.distributed import get_rank, run_on_first
from fdt.errors import UserError
from fdt.policy.forward import build_hidden_fn
from fdt.policy.loading.first_rank import receive_weights
from fdt.policy.loading.shards import (
    OTHER,
    add_saved_terms,
    load_shards,
    read_moments,
    read_plain,
    write_contents,
)
from fdt.policy.optimizers import SignalAdamW
from fdt.policy.policy import Policy

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


def shard(policy: Policy, mesh: DeviceMesh, device: torch.device) -> None:
    """Shards each decoder layer, then the causal LM itself (embedding, norm, head) as the root.

    The root is the causal LM, not a wrapper: the head is read outside a forward, so it must belong to the module that
    stays gathered between forward and backward. The method that computes hidden states is
    registered so that FSDP2 gathers for it. Weights come from the first rank, a layer at a time.

    Raises:
        UserError: where the policy reads frozen layers from a folder.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if policy.activation_cache is not None:
        raise UserError(
            "sharded layers are not kept in a folder",
            got=str(policy.activation_cache.folder),
            expected="null",
            key="model.lora.activation_cache_folder",
            remedy="train on one device or under DDP",
        )
    causal = policy.causal
    decoder: Any = causal.get_decoder()
    for layer in decoder.layers:
        receive_weights(layer, device)
        fully_shard(layer, mesh=mesh)
    receive_weights(causal, device)
    fully_shard(causal, mesh=mesh, reshard_after_forward=False)
    vars(causal)["fdt_hidden"] = build_hidden_fn(causal, packs=policy.packs)
    register_fsdp_forward_method(causal, "fdt_hidden")


def shard_as_asked(policy: Policy, strategy: Any, mesh: DeviceMesh | None) -> None:
    """Shards the policy where the trainer's strategy is a model-parallel one."""
    if isinstance(strategy, ModelParallelStrategy):
        check_mesh(strategy)
        assert mesh is not None
        shard(policy, mesh["data_parallel"], strategy.root_device)


def find_sharded_modules(policy: Policy) -> list[FSDPModule]:
    """The FSDP2 modules of a policy, root last; empty when nothing is sharded."""
    from torch.distributed.fsdp import FSDPModule

    found: list[FSDPModule] = [module for module in policy.causal.modules() if isinstance(module, FSDPModule)]
    return found[1:] + found[:1]


def is_sharded(policy: Policy) -> bool:
    """Whether the policy's weights are spread over ranks."""
    return bool(find_sharded_modules(policy))


def reshard(policy: Policy) -> None:
    """Drops gathered weights, so that the next forward gathers the current ones (after weights were swapped)."""
    for module in find_sharded_modules(policy):
        module.reshard()


def unshard_root(policy: Policy) -> None:
    """Gathers the root again: `TokenLogProbs` read the head lazily, and hold the gathered tensor."""
    for module in find_sharded_modules(policy)[-1:]:
        module.unshard()


@contextmanager
def unshard_all(policy: Policy) -> Iterator[None]:
    """Holds all weights whole on this rank for the duration: generation then gathers once, not once a token."""
    modules = find_sharded_modules(policy)
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.set_reshard_after_forward(module is not modules[-1], recurse=False)
            module.reshard()


def gather_state(model: nn.Module, dtype: torch.dtype | None, only_trainable: bool = False) -> dict[str, Tensor]:
    """Whole weights on the CPU of rank 0, from shards, one tensor at a time; nothing on other ranks. Every rank must
    call.

    Args:
        model: with or without shards.
        dtype: what floating-point weights are cast to; None keeps theirs.
        only_trainable: leaves out what is frozen.
    """
    found: dict[str, Tensor] = {}
    trained = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    for name, value in model.state_dict().items():
        if only_trainable and name not in trained:
            continue
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if get_rank() == 0:
            kind = dtype if dtype is not None and whole.is_floating_point() else whole.dtype
            found[name] = whole.detach().to("cpu", kind)
        del whole
    return found


@contextmanager
def keep_root_gathered(policy: Policy) -> Iterator[None]:
    """Holds the root whole between several backward passes over one graph: the head is read outside a forward, so that
    no hook of a pass would gather it. The layers' hooks gather them again, one at a time."""
    modules = find_sharded_modules(policy)[-1:]
    for module in modules:
        module.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        for module in modules:
            module.set_reshard_after_backward(True, recurse=False)
            module.reshard()


class FSDP2(ModelParallelStrategy):
    """Shards weights, gradients and optimiser state over all processes (``fully_shard``).

    Lightning's parent gives all processes of a node to tensor parallelism by default, which would leave
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

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: dict[str, Any] | None = None
    ) -> None:
        """Writes shards beside their place, and gives the folder its name when all ranks' are on the disk."""
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        target = Path(self.broadcast(filepath))
        part = Path(self.broadcast(name_part(target)))
        step = int(checkpoint["global_step"])
        super().save_checkpoint(checkpoint, part, storage_options)
        self.barrier("shards written")
        if self.global_rank == 0:
            write_contents(part)
            finish_folder(part, target, step)
        self.barrier("shards named")

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """
        Raises:
            UserError: where it is damaged, of another policy, or holds more than plain data.
        """
        path = Path(self.broadcast(checkpoint_path))
        run_on_first(lambda: check_whole(path))
        if not path.is_dir():
            if any(isinstance(optimizer, SignalAdamW) for optimizer in self.optimizers):
                add_saved_terms(self.optimizers, read_moments(path))
            return super().load_checkpoint(path, weights_only)
        other: dict[str, Any] = read_plain(path / OTHER)
        assert self.lightning_module is not None
        self.lightning_module.on_load_checkpoint(other)  # refuses another policy before shapes do not fit
        load_shards(path, self.lightning_module, self.optimizers)
        return other

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def check_mesh(strategy: Any) -> None:
    """
    Raises:
        UserError: where a model-parallel strategy splits something else than the data.
    """
    if strategy._tensor_parallel_size != 1:
        raise UserError(
            "tensor parallelism is not supported",
            got=strategy._tensor_parallel_size,
            expected=1,
            remedy="use fdt.policy.fsdp.FSDP2",
            key="trainer.strategy.tensor_parallel_size",
        )
