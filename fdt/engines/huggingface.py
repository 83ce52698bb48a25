"""Generation with transformers, from the very weights that train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from fdt.distributed import reduce_max_count
from fdt.engines.base import Engine, Limit, Sample
from fdt.engines.decode.check import can_decode
from fdt.engines.decode.loop import DecodeBatch
from fdt.engines.decode.sampling import RowNoise
from fdt.engines.decoding import (
    LogProbRecorder,
    ReasoningBudgetProcessor,
    RowLengthCriteria,
    SwitchPenalty,
    SwitchPenaltyProcessor,
    TemperatureProcessor,
)
from fdt.policy.fsdp import is_sharded, unshard_all
from fdt.policy.policy import Policy


@dataclass(frozen=True)
class HuggingFace(Engine):
    """Answers from the policy's own weights, prompts of similar length together.

    Answers to one prompt share its reading, and rows that ended leave the batch. Models with sliding windows or states
    that run through the row, and weights spread over ranks, go through ``transformers.generate`` instead.

    Sampling is from the policy's own distribution: top-k, top-p and penalties are off, also those that the model's own
    generation config asks for, since they would bend it and bias the policy gradient.
    """

    max_new_tokens: int = 64
    """Most tokens of one answer."""
    temperature: float = 1.0
    """Sampling temperature. Other values than 1 sample from another distribution than the one that is trained: training
    on such samples needs a mismatch gate, objectives.TruncatedIS for example."""
    batch_size: int = 64
    """Prompts decoded together."""
    switching: SwitchPenalty | None = None
    """Penalty on abandoning thoughts (TIP); bends the distribution as a temperature does. None: off."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}; greedy decoding is seed=None")

    @property
    def off_policy_reason(self) -> str | None:
        reasons = [f"temperature {self.temperature}"] if self.temperature != 1 else []
        if self.switching is not None and self.switching.alpha and self.switching.beta:
            reasons.append(f"a switch penalty of {self.switching.alpha} over {self.switching.beta} tokens")
        return " and ".join(reasons) or None

    @property
    def returns_policy_log_probs(self) -> bool:
        return self.off_policy_reason is None

    @property
    def max_answer_tokens(self) -> int:
        return self.max_new_tokens

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit] | None = None,
        listen: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """As `Engine.generate`; `listen` is called with the number of a prompt and the next token of its answer as soon
        as that is drawn, and never for models that go through ``transformers.generate``."""
        limits = limits if limits is not None else [Limit()] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        chunks = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        training = policy.training
        policy.eval()
        try:
            with torch.no_grad():
                if not self._uses_own_loop(policy):
                    return self._generate_plain(policy, prompts, seed, limits, chunks)
                with policy.prepare_decoding():
                    return self._generate_fast(policy, prompts, seed, limits, chunks, listen)
        finally:
            policy.train(training)

    def _uses_own_loop(self, policy: Policy) -> bool:
        return not is_sharded(policy) and can_decode(policy.causal)

    def _generate_fast(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit],
        chunks: list[list[int]],
        listen: Callable[[int, int], None] | None,
    ) -> list[Sample]:
        noise = None if seed is None else RowNoise(seed, len(prompts))
        answers: dict[int, Sample] = {}
        for chunk in chunks:
            own = [limits[i] for i in chunk]
            width = max(len(prompts[i]) for i in chunk)
            processors, closing = self._build_processors(policy.tokenizer, own, width, seed is not None)
            batch = DecodeBatch(
                policy.causal,
                [prompts[i] for i in chunk],
                self._list_caps(own),
                policy.stop_ids,
                None if noise is None else partial(noise.draw, rows=torch.tensor(chunk)),
                processors,
                None if closing is None else closing.get_forced,
                None if listen is None else partial(_tell_place, listen, chunk),
            )
            found = zip(chunk, *batch.decode(), strict=True)
            answers |= {place: Sample(tuple(ids), tuple(values)) for place, ids, values in found}
        return [answers[i] for i in range(len(prompts))]

    def _list_caps(self, limits: Sequence[Limit]) -> list[int]:
        return [self.max_new_tokens if limit.tokens is None else limit.tokens for limit in limits]

    def _generate_plain(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit],
        chunks: list[list[int]],
    ) -> list[Sample]:
        answers: dict[int, Sample] = {}
        sharded = is_sharded(policy)
        rounds = reduce_max_count(len(chunks), policy.device) if sharded else len(chunks)
        stops = policy.stop_ids
        with seed_rng(seed), unshard_all(policy), reset_generation_config(policy.causal):
            for number in range(rounds):
                chunk = chunks[number] if number < len(chunks) else []
                batch = [list(prompts[i]) for i in chunk] or [[policy.tokenizer.eos_token_id]]
                caps = [limits[i] for i in chunk] or [Limit(tokens=1)]
                samples = self._decode_plain(policy, batch, seed is not None, caps, stops, sharded)
                answers |= zip(chunk, samples, strict=False)
        return [answers[i] for i in range(len(prompts))]

    def _decode_plain(
        self,
        policy: Policy,
        batch: list[list[int]],
        sample: bool,
        limits: list[Limit],
        stops: tuple[int, ...],
        synced: bool,
    ) -> list[Sample]:
        eos = stops[0]
        width = max(len(ids) for ids in batch)
        ids = torch.tensor([[eos] * (width - len(row)) + row for row in batch], device=policy.device)
        alive = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=policy.device)
        caps = self._list_caps(limits)
        chain, closing = self._build_processors(policy.tokenizer, limits, width, sample)
        recorder = LogProbRecorder()
        causal: Any = policy.causal  # a class of transformers, under wrappers that its types do not know
        out = causal.generate(
            input_ids=ids,
            attention_mask=alive,
            do_sample=sample,
            max_new_tokens=max(caps),
            eos_token_id=list(stops),
            pad_token_id=eos,
            synced_gpus=synced,
            logits_processor=[*chain, recorder],
            stopping_criteria=[RowLengthCriteria(caps, width)] if min(caps) < max(caps) else [],
            **({"top_k": 0, "top_p": 1.0} if sample else {}),  # top_k has a default of 50
        )
        written = out[:, width:]
        log_probs = recorder.finish(written[:, -1], closing).tolist()
        return [_build_sample(*row, stops) for row in zip(written.tolist(), log_probs, caps, strict=True)]

    def _build_processors(
        self, tokenizer: Any, limits: list[Limit], width: int, sample: bool
    ) -> tuple[list[Any], ReasoningBudgetProcessor | None]:
        """What changes the logits, in order, and which of it forces tokens."""
        chain: list[Any] = [TemperatureProcessor(self.temperature)] if sample and self.temperature != 1 else []
        if self.switching is not None:
            chain.append(SwitchPenaltyProcessor(self.switching, tokenizer, width))
        needed = any(limit.reasoning is not None for limit in limits)
        closing = ReasoningBudgetProcessor(limits, tokenizer, width) if needed else None
        return [*chain, *([closing] if closing else [])], closing


def _tell_place(listen: Callable[[int, int], None], places: Sequence[int], row: int, token: int) -> None:
    """Tells the token of a row of a chunk by the place of its prompt."""
    listen(places[row], token)


def _build_sample(ids: list[int], log_probs: list[float], cap: int, stops: tuple[int, ...]) -> Sample:
    # What follows a row's cap is padding, which looks like the end token.
    ids = ids[:cap]
    size = next((n for n, i in enumerate(ids, 1) if i in stops), len(ids))
    return Sample(tuple(ids[:size]), tuple(log_probs[:size]))


@contextmanager
def reset_generation_config(causal: Any) -> Iterator[None]:
    """Lays the model's own generation config aside: its top-p or repetition penalty would bend the distribution."""
    own = causal.generation_config
    causal.generation_config = GenerationConfig()
    try:
        yield
    finally:
        causal.generation_config = own


@contextmanager
def seed_rng(seed: int | None) -> Iterator[None]:
    """Runs with its own random state and puts the old one back: a resumed run then draws the same samples."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
