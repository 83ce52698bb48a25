"""The calls to vLLM in this process: weights in, token ids in and out."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdt.engines.completions import OWN, Completion, CompletionRequest
from fdt.engines.vllm.launch import build_settings, build_variables
from fdt.engines.vllm.weight_sync import WeightSync
from fdt.errors import UserError
from fdt.policy.policy import Policy

DEVICES = "CUDA_VISIBLE_DEVICES"
SHARE = 0.4
"""Of a card's memory, where the options name no other: the trainer is on the same card."""


@dataclass(frozen=True)
class LLMOptions:
    """How vLLM is started."""

    dtype: str = "auto"
    """Of vLLM's weights."""
    max_model_len: int | None = None
    """Longest conversation in tokens."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of vllm.LLM."""


@dataclass
class InProcessLLM(WeightSync):
    """One `vllm.LLM` and what it holds."""

    llm: Any = None
    adapter: Any = None
    """What requests name to get the present adapter; None where whole weights were read."""

    def update_weights(self, policy: Policy, options: LLMOptions) -> None:
        """Makes sure that vLLM runs and has the policy's weights."""
        if self.llm is None:
            self.llm = start(policy, options)
        self.sync(policy)

    def deliver(self, target: Path, old: str, adapter: bool) -> None:
        if adapter:
            from vllm.lora.request import LoRARequest

            # A new number each time: vLLM keeps what it computed for a name and a number, prefixes above all.
            self.adapter = LoRARequest(target.name, self.snapshots.versions.count, str(target))
            return
        self.adapter = None
        self.llm.collective_rpc("fdt_reload", args=(str(target),))
        self.llm.reset_prefix_cache()

    def complete(self, requests: Sequence[CompletionRequest], stops: Sequence[int]) -> list[Completion]:
        """An answer for each, from the policy's own distribution, up to one of the ids ``stops``."""
        from vllm import SamplingParams

        sampling = [
            SamplingParams(
                **OWN,
                temperature=0.0 if request.seed is None else 1.0,
                seed=request.seed,
                max_tokens=request.tokens,
                logprobs=0,
                ignore_eos=True,
                stop_token_ids=list(stops),
                stop=request.stop,
                include_stop_str_in_output=request.stop is not None,
                skip_special_tokens=False,
                spaces_between_special_tokens=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        try:
            found = self.llm.generate(prompts, sampling, use_tqdm=False, lora_request=self.adapter)
        except ValueError as fault:  # such as a prompt that is too long
            raise UserError(f"vLLM refuses a prompt: {fault}", key="data.engine") from fault
        return [parse_output(one.outputs[0]) for one in found]


def parse_output(output: Any) -> Completion:
    """One output of vLLM's."""
    ids = tuple(output.token_ids)
    values = tuple(listed[token].logprob for token, listed in zip(ids, output.logprobs, strict=True))
    return Completion(ids, values, output.text, isinstance(output.stop_reason, str))


def start(policy: Policy, options: LLMOptions) -> Any:
    """A `vllm.LLM` for this policy.

    Raises:
        UserError: where vLLM is not installed here.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "vLLM is not installed in this environment",
            key="data.engine",
            remedy="run fdt in one that has it (`make vllm`), or use fdt.engines.VLLMServer, whose "
            "environment may be another one",
        )
    variables = build_variables(policy)
    for name, value in variables.items():
        if name.startswith("VLLM"):  # the trainer's own paths stay as they are
            os.environ.setdefault(name, value)
    settings = build_settings(policy, options.dtype, options.max_model_len)
    if "worker_extension_cls" in settings:
        settings["worker_extension_cls"] = "fdt.engines.vllm.worker." + settings["worker_extension_cls"]
    from vllm import LLM

    if policy.device.type == "cuda":
        settings["gpu_memory_utilization"] = SHARE
    with show_device(variables.get(DEVICES)):
        return LLM(**settings | {"disable_log_stats": True} | options.options)


@contextmanager
def show_device(name: str | None) -> Iterator[None]:
    """Processes that are started meanwhile see this card alone: each rank's engine then takes the rank's own. This
    process has opened its cards already, and keeps them."""
    former = os.environ.get(DEVICES)
    if name is not None:
        os.environ[DEVICES] = name
    try:
        yield
    finally:
        if former is not None:
            os.environ[DEVICES] = former
        elif name is not None:
            del os.environ[DEVICES]
