"""An engine that recites: it says the same few answers over and over, whatever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fdt.data.tokenization import tokenize_answer
from fdt.engines import Engine
from fdt.engines.base import Limit, Sample
from fdt.policy.policy import Policy


@dataclass(frozen=True)
class Recite(Engine):
    """Answers the n-th prompt of a call with the n-th text, round and round."""

    texts: list[str]
    """What it says."""

    @property
    def max_answer_tokens(self) -> int:
        return 128

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        seed: int | None,
        limits: Sequence[Limit] | None = None,
    ) -> list[Sample]:
        said = [tokenize_answer(self.texts[n % len(self.texts)], policy.tokenizer) for n in range(len(prompts))]
        return [Sample(tuple(ids), (0.0,) * len(ids)) for ids in said]
