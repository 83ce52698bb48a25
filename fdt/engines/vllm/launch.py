"""How vLLM is started for a policy: with which arguments, in which environment, by which Python."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fdt.errors import UserError
from fdt.policy.hub import resolve_model
from fdt.policy.policy import Policy

PYTHON = "FDT_VLLM_PYTHON"
EXTENSION = Path(__file__).parent / "worker"
"""Goes into the server's PYTHONPATH, so that it finds ``fdt_worker`` and nothing else."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter ranks that vLLM accepts as its highest."""
DECIDED = {
    "model",
    "dtype",
    "max_model_len",
    "generation_config",
    "override_generation_config",
    "logits_processors",
    "logprobs_mode",
    "enable_lora",
    "max_lora_rank",
    "max_loras",
    "max_cpu_loras",
    "worker_extension_cls",
}
"""What the engines decide, or what would bend the distribution that answers are drawn from."""


def choose_serving_dtype(policy: Policy, dtype: str) -> torch.dtype:
    """What vLLM holds weights in; ``auto`` is what the trainer multiplies in."""
    return (policy.autocast_dtype or policy.causal.dtype) if dtype == "auto" else getattr(torch, dtype)


def build_settings(policy: Policy, dtype: str, max_model_len: int | None) -> dict[str, Any]:
    """vLLM's arguments for this policy, by name."""
    place = resolve_model(policy.base)
    found: dict[str, Any] = {
        "model": str(Path(place).resolve()) if Path(place).exists() else place,
        "dtype": str(choose_serving_dtype(policy, dtype)).removeprefix("torch."),
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
    }
    if policy.device.type == "cpu":
        # A prompt read in parts ends the server where requests have seeds: "CPU Generator does not use offset".
        found["enable_chunked_prefill"] = False
        # What is compiled may hold on to matrices that were packed before the weights changed.
        found["enforce_eager"] = True
    if max_model_len is not None:
        found["max_model_len"] = max_model_len
    if policy.lora is not None:
        rank = next((rank for rank in RANKS if rank >= policy.lora.rank), policy.lora.rank)
        # Two in memory: the next one is loaded before the last one is dropped.
        found |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1, "max_cpu_loras": 2}
    else:
        found["worker_extension_cls"] = "fdt_worker.Reload"
    return found


def format_option(name: str, value: Any) -> list[str]:
    """One argument of vLLM's as its command line has it."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", str(value)]


def build_variables(policy: Policy, devices: Sequence[int] = ()) -> dict[str, str]:
    """Environment of a server of our own; what the user has set stays.

    Args:
        devices: its cards, by their numbers among those that this process sees; none: the rank's own.
    """
    wanted = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    found = {name: os.environ.get(name, value) for name, value in wanted.items()}
    if policy.lora is None:
        found |= {"VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": str(EXTENSION)}
    else:
        found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if policy.device.type == "cuda":
        # By the names that they have among those that this process sees.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        wanted_devices = list(devices) or [policy.device.index or 0]
        names = seen.split(",") if seen else [str(n) for n in range(max(wanted_devices) + 1)]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(names[n] for n in wanted_devices)
    return found


def find_python(given: str | None) -> str:
    """The Python that serves.

    Raises:
        UserError: where vLLM is in no environment that is named.
    """
    named = given or os.environ.get(PYTHON)
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise UserError(
                "no such Python",
                got=named,
                expected="the python of an environment with vLLM",
                key="data.engine.init_args.python",
            )
        return str(Path(found).absolute())  # not resolved: a link is what makes it that environment's
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "vLLM is not installed here",
            key="data.engine.init_args.python",
            remedy=f"run `make vllm` and set {PYTHON}=.venv-vllm/bin/python, or name another environment's "
            "python; it need not be the trainer's",
        )
    return sys.executable
