"""Generation with transformers, from the very weights that train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fdt.policy import Policy
from fdt.ranks import most
from fdt.sharding import gathered, is_sharded


class Engine(ABC):
    """Generates answers."""

    @abstractmethod
    def generate(
        self, policy: Policy, prompts: Sequence[Sequence[int]], seed: int | None, longest: int | None = None
    ) -> list[list[int]]:
        """
        Args:
            policy: the weights to sample from.
            prompts: token ids, one list a prompt.
            seed: seed of the samples; None decodes greedily.
            longest: most tokens of an answer, if other than the engine's own.

        Returns:
            Ids of each answer, with the end-of-sequence token where the policy wrote it.
        """


@dataclass(frozen=True)
class HuggingFace(Engine):
    """``transformers.generate`` with a dynamic cache, left padding, prompts of similar length together.

    Sampling is from the policy's own distribution: top-k and top-p are off, since they would bend it and bias the
    policy gradient.
    """

    max_new_tokens: int = 64
    """Most tokens of one answer."""
    temperature: float = 1.0
    """Sampling temperature. Values other than 1 sample from another distribution than the one that is trained."""
    batch_size: int = 64
    """Prompts decoded together."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}; greedy decoding is seed=None")

    def generate(
        self, policy: Policy, prompts: Sequence[Sequence[int]], seed: int | None, longest: int | None = None
    ) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        chunks = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        answers: list[list[int]] = [[] for _ in prompts]
        sharded = is_sharded(policy)
        rounds = most(len(chunks), policy.device) if sharded else len(chunks)
        training = policy.training
        policy.eval()
        with torch.no_grad(), seeded(seed), gathered(policy):
            for turn in range(rounds):
                chunk = chunks[turn] if turn < len(chunks) else []
                batch = [list(prompts[i]) for i in chunk] or [[policy.tokenizer.eos_token_id]]
                done = self._decode(policy, batch, seed is not None, longest or self.max_new_tokens, sharded)
                for i, ids in zip(chunk, done, strict=False):
                    answers[i] = ids
        policy.train(training)
        return answers

    def _decode(self, policy: Policy, batch: list[list[int]], sample: bool, longest: int, synced: bool) -> list[list[int]]:
        eos = policy.tokenizer.eos_token_id
        width = max(len(ids) for ids in batch)
        ids = torch.tensor([[eos] * (width - len(row)) + row for row in batch], device=policy.device)
        alive = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=policy.device)
        choice = {"top_k": 0, "top_p": 1.0, "temperature": self.temperature} if sample else {}
        out = policy.causal.generate(
            input_ids=ids,
            attention_mask=alive,
            do_sample=sample,
            max_new_tokens=longest,
            eos_token_id=eos,
            pad_token_id=eos,
            synced_gpus=synced,
            **choice,
        )
        return [_until(row, eos) for row in out[:, width:].tolist()]


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos) + 1] if eos in ids else ids


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Runs with its own random state and puts the old one back: a resumed run then draws the same samples."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
