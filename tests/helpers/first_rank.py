"""Builds a sharded policy as one of two ranks and writes what it holds.

Started by ``test_first_rank.py``: ``python -m tests.helpers.first_rank OUT MODEL``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from fdt.errors import UserError
from fdt.policy.fsdp import FSDP2, gather_state
from fdt.policy.loading.devices import build_policy
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy


class OnCPU(FSDP2):
    """The strategy before a trainer has set it up."""

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")


def read_memory(name: str) -> int:
    """A line of the process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def build(base: str, lora: LoRA | None, dtype: str) -> Policy:
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    return build_policy(OnCPU(), mesh, base, lora, dtype, False, 3, None, 4096)


def describe(policy: Policy) -> dict:
    """Whole weights, and what a rank must know beside them."""
    return {
        "state": gather_state(policy.model, None),
        "buffers": {name: value.clone() for name, value in policy.model.named_buffers()},
        "trained": [name for name, p in policy.model.named_parameters() if p.requires_grad],
        "ties": policy.causal.get_input_embeddings().weight is policy.causal.get_output_embeddings().weight,
        "modes": [module.training for module in policy.model.modules()],
        "stop_ids": policy.stop_ids,
        "packs": policy.packs,
    }


def main(out: Path, base: str) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
    Policy(str(out / "small"))  # what a first one imports is not counted
    before = read_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    policy = build(base, None, "float32")
    found = {"grown": read_memory("VmHWM") - before, "whole": describe(policy)}
    found["adapters"] = describe(build(str(out / "small"), LoRA(rank=4), "bfloat16"))
    try:
        build(str(out / "broken"), None, "float32")
    except UserError as fault:
        found["fault"] = str(fault)
    torch.save(found, out / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
