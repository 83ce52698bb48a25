"""Drafts of rewrites from the policy that trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fdt.data.tokenization import tokenize_prompt
from fdt.engines import Engine, Limit
from fdt.engines.returns import generate_samples, get_max_answer_tokens
from fdt.policy.policy import Policy
from feedback.drafters import Drafter
from feedback.types import Message


@dataclass(frozen=True)
class PolicyDrafter(Drafter):
    """The current weights. The first draft is greedy: the best the policy can do with the critique, and about twice as
    often accepted as a sample. Further ones are sampled."""

    policy: Policy
    engine: Engine

    def __call__(self, prompts: Sequence[list[Message]], each: int, seed: int) -> list[list[str]]:
        """Generates even for no prompts, since under FSDP2 every rank takes part; the greedy draft stands first."""
        tokenizer = self.policy.tokenizer
        ids = [tokenize_prompt(messages, tokenizer) for messages in prompts]
        most = self.policy.positions or sys.maxsize
        asked = [n for n, prompt in enumerate(ids) if len(prompt) < most]
        longest = get_max_answer_tokens(self.engine)
        limits = [Limit(min(longest, most - len(ids[n]))) for n in asked]
        fitting = [ids[n] for n in asked]
        answers = generate_samples(self.engine, self.policy, fitting, None, limits)
        if each > 1:
            rest = each - 1
            answers += generate_samples(self.engine, self.policy, fitting * rest, seed, limits * rest)
        drafts = [str(tokenizer.decode(list(answer.ids), skip_special_tokens=True)).strip() for answer in answers]
        found = [[""] * each for _ in ids]  # what leaves no room for an answer gets an empty draft, which is refused
        for place, n in enumerate(asked):
            found[n] = drafts[place :: len(asked)]
        return found
