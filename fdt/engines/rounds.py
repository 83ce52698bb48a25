"""Answers in rounds: a server cannot be stopped in the middle of a reply, so a reasoning budget ends a request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fdt.data.chat.template import find_stop_ids
from fdt.engines.base import FORCED, Limit, Sample
from fdt.engines.completions import Completion, CompletionRequest
from fdt.engines.decoding import TAIL, is_block_open
from fdt.errors import UserError


@dataclass
class PartialCompletion:
    """One answer being written."""

    prompt: list[int]
    limit: Limit
    cap: int
    """Most tokens."""
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    done: bool = False

    @property
    def over_budget(self) -> bool:
        """Whether reasoning may not go on."""
        return self.limit.reasoning is not None and len(self.ids) >= self.limit.reasoning

    def build_request(self, seed: int | None) -> CompletionRequest:
        """The request for what may be written freely: up to the budget, then until a block opens again."""
        left = self.cap - len(self.ids)
        if self.limit.reasoning is not None and not self.over_budget:
            left = min(left, self.limit.reasoning - len(self.ids))
        stop = self.limit.delimiters[0] if self.over_budget else None
        return CompletionRequest([*self.prompt, *self.ids], left, seed, stop)

    def append_completion(self, answer: Completion, tokens: int, stops: Collection[int]) -> None:
        """Adds what was written.

        Args:
            tokens: most tokens that the request allowed.
            stops: the ids that end an answer.
        """
        ended = bool(answer.ids) and answer.ids[-1] in stops
        if len(answer.ids) < tokens and not answer.stopped and not ended:
            raise UserError(
                "the server ended an answer by a rule of its own",
                got=f"{len(answer.ids)} tokens",
                expected=f"{tokens}, or an end token ({', '.join(map(str, stops))})",
                key="data.engine",
                remedy="start vLLM with --generation-config vllm",
            )
        # A reply that was asked for within the budget is followed by another.
        last = self.limit.reasoning is None or (self.over_budget and not answer.stopped)
        self.ids += answer.ids
        self.log_probs += answer.log_probs
        self.done = last or self.ids[-1] in stops or len(self.ids) >= self.cap

    def close_reasoning(self, tokenizer: Any) -> None:
        """Closes an open reasoning block once its budget is spent; the tokens are nobody's choice."""
        if self.done or not self.over_budget or not self._is_reasoning_open(tokenizer):
            return
        forced = tokenizer(self.limit.delimiters[1], add_special_tokens=False)["input_ids"][: self.cap - len(self.ids)]
        self.ids += forced
        self.log_probs += [FORCED] * len(forced)
        self.done = len(self.ids) >= self.cap

    def _is_reasoning_open(self, tokenizer: Any) -> bool:
        # The prompt's end may open the block; what comes before the last header does not matter.
        own = is_block_open(tokenizer.decode(self.ids), self.limit.delimiters)
        return bool(is_block_open(tokenizer.decode(self.prompt[-TAIL:]), self.limit.delimiters) if own is None else own)


def generate_in_rounds(
    complete: Callable[[Sequence[CompletionRequest]], list[Completion]],
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    seed: int | None,
    limits: Sequence[Limit],
    stops: Sequence[int] | None = None,
) -> list[Sample]:
    """One answer for each prompt; every limit sets how many tokens (`fill_limits`). Each request has a seed of its own,
    made of ``seed``, the prompt's place and the round, so that equal prompts are answered differently. ``stops`` are
    the ids that end an answer (None: those of the tokenizer and its template)."""
    drafts = [
        PartialCompletion(list(prompt), limit, limit.tokens or 0) for prompt, limit in zip(prompts, limits, strict=True)
    ]
    ends = find_stop_ids(tokenizer) if stops is None else tuple(stops)
    number = 0
    while True:
        for draft in drafts:
            draft.close_reasoning(tokenizer)
        live = [(place, draft) for place, draft in enumerate(drafts) if not draft.done]
        if not live:
            return [Sample(tuple(draft.ids), tuple(draft.log_probs)) for draft in drafts]
        requests = [draft.build_request(_mix_seed(seed, place, number)) for place, draft in live]
        for (_, draft), request, answer in zip(live, requests, complete(requests), strict=True):
            draft.append_completion(answer, request.tokens, ends)
        number += 1


def fill_limits(limits: Sequence[Limit] | None, count: int, max_new_tokens: int) -> list[Limit]:
    """A limit for each of ``count`` prompts, with ``max_new_tokens`` tokens where it left their number open."""
    given = [Limit()] * count if limits is None else limits
    return [limit if limit.tokens is not None else replace(limit, tokens=max_new_tokens) for limit in given]


def _mix_seed(seed: int | None, place: int, number: int) -> int | None:
    # Neighbouring seeds must not share random numbers: multiplied, then cut to 31 bits.
    return None if seed is None else ((seed * 1_000_003 + place) * 1_000_003 + number) % (2**31 - 1)
