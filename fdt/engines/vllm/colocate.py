"""vLLM from the trainer's own environment, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fdt.engines.base import Engine, Limit, Sample
from fdt.engines.vllm.launch import DECIDED
from fdt.errors import UserError
from fdt.policy.policy import Policy

if TYPE_CHECKING:
    from fdt.engines.completions import Completion, CompletionRequest
    from fdt.engines.vllm.llm import InProcessLLM


@dataclass(frozen=True, kw_only=True)
class VLLM(Engine):
    """vLLM in the trainer's own environment, which then has vLLM's versions of everything (docs/engines.md).

    Its model runs in a process of its own. Distribution and weights are as with `VLLMServer`.
    """

    max_new_tokens: int = 64
    """Most tokens of one answer."""
    dtype: str = "auto"
    """Of vLLM's weights: bfloat16, float16, float32, or auto, which is what the trainer holds the base in."""
    max_model_len: int | None = None
    """Longest conversation in tokens; null: as long as the model allows, which may need much memory."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of vllm.LLM, such as {gpu_memory_utilization: 0.4}."""

    def __post_init__(self) -> None:
        if wrong := sorted(DECIDED & set(self.options)):
            raise UserError(
                "this engine sets that itself",
                got=wrong[0],
                expected="other arguments of vllm.LLM",
                key="data.engine.init_args.options",
            )

    @property
    def max_answer_tokens(self) -> int:
        return self.max_new_tokens

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit] | None = None,
    ) -> list[Sample]:
        if not prompts:
            return []
        from fdt.engines.rounds import fill_limits, generate_in_rounds
        from fdt.engines.vllm.llm import LLMOptions

        self._llm.update_weights(policy, LLMOptions(self.dtype, self.max_model_len, self.options))

        def complete(requests: Sequence[CompletionRequest]) -> list[Completion]:
            return self._llm.complete(requests, policy.stop_ids)

        return generate_in_rounds(
            complete,
            policy.tokenizer,
            prompts,
            seed,
            fill_limits(limits, len(prompts), self.max_new_tokens),
            policy.stop_ids,
        )

    @cached_property
    def _llm(self) -> InProcessLLM:
        from fdt.engines.vllm.llm import InProcessLLM

        return InProcessLLM(None)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: the engine belongs to one process."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}
