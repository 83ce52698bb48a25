"""Processors between a model's logits and the token that is drawn, and the record of the distribution drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdt.engines.base import FORCED, Limit

TAIL = 16
"""Ids decoded in search of a delimiter that ends there."""


@dataclass(frozen=True)
class SwitchPenalty:
    """TIP (arXiv 2501.18585 section 3.1): words that begin another thought cost ``alpha`` while a thought is young.

    z_v - alpha for the switch tokens v while t < start of the current thought + ``beta``. The paper names only
    "alternatively"; the list is ours. It bends the distribution: train with it only under a mismatch gate.
    """

    alpha: float = 3.0
    """Subtracted from the logits of switch tokens; 0 switches the penalty off."""
    beta: int = 600
    """Tokens of a thought over which it acts; 0 switches the penalty off."""
    words: tuple[str, ...] = ("alternatively", "another approach", "wait", "however")
    """What begins another thought; the first token of each counts, in any case, with and without a space before."""

    def find_switch_tokens(self, tokenizer: Any) -> frozenset[int]:
        """First token of every spelling of the words."""
        spelt = [form for word in self.words for form in (word, word.capitalize(), word.upper())]
        found = [tokenizer(lead + form, add_special_tokens=False)["input_ids"] for form in spelt for lead in ("", " ")]
        bare = tokenizer(" ", add_special_tokens=False)["input_ids"]
        # Where a space is a token of its own, the word begins after it.
        return frozenset(ids[len(bare) if ids[: len(bare)] == bare and len(ids) > len(bare) else 0] for ids in found)


def penalise_switches(logits: Tensor, switches: Tensor, young: Tensor, alpha: float) -> Tensor:
    """Logits ``[B, V]`` less alpha at the tokens ``switches`` ``[k]`` in the rows ``young`` ``[B]`` bool."""
    out = logits.clone()
    out[:, switches] -= alpha * young[:, None].to(logits.dtype)
    return out


class TemperatureProcessor:
    """Divides logits by a temperature."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores / self.temperature

    def select_rows(self, rows: list[int]) -> None:
        """All rows have one temperature."""


class SwitchPenaltyProcessor:
    """Applies a ``SwitchPenalty`` in the course of one generation; a drawn switch token begins a new thought."""

    def __init__(self, penalty: SwitchPenalty, tokenizer: Any, width: int) -> None:
        self.penalty = penalty
        self.width = width
        self.switches = torch.tensor(sorted(penalty.find_switch_tokens(tokenizer)))
        self.start: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        done = input_ids.shape[1] - self.width
        self.switches = self.switches.to(scores.device)
        if self.start is None:
            self.start = torch.zeros(len(input_ids), dtype=torch.long, device=scores.device)
        elif done:
            # The thought starts at its switch token.
            self.start[torch.isin(input_ids[:, -1], self.switches)] = done - 1
        return penalise_switches(scores, self.switches, done < self.start + self.penalty.beta, self.penalty.alpha)

    def select_rows(self, rows: list[int]) -> None:
        """Keeps these rows of the batch."""
        if self.start is not None:
            self.start = self.start[rows]


def is_block_open(text: str, delimiters: tuple[str, str]) -> bool | None:
    """Whether a text ends inside a reasoning block; None where it has neither delimiter."""
    begun, ended = (text.rfind(delimiter) for delimiter in delimiters)
    return None if begun < 0 and ended < 0 else begun > ended


class ReasoningBudgetProcessor:
    """Closes each row's reasoning block when its budget is spent, one forced token at a time."""

    def __init__(self, limits: Sequence[Limit], tokenizer: Any, width: int) -> None:
        self.limits = limits
        self.tokenizer = tokenizer
        self.width = width
        self.ends = [tokenizer(limit.delimiters[1], add_special_tokens=False)["input_ids"] for limit in limits]
        self.open: list[bool | None] = [None] * len(limits)
        self.pending: list[list[int]] = [[] for _ in limits]
        self.forced: list[list[bool]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        done = input_ids.shape[1] - self.width
        asked = any(limit.reasoning is not None for limit in self.limits)
        # The prompt's end may open a block; what comes before the last header does not matter. One transfer for all.
        tails = input_ids[:, -TAIL:].tolist() if asked else [[]] * len(self.limits)
        self.forced.append([self._is_due(row, tail, done) for row, tail in enumerate(tails)])
        due = [row for row, is_due in enumerate(self.forced[-1]) if is_due]
        if not due:
            return scores
        scores = scores.clone()
        scores[due] = -torch.inf
        scores[due, [self.pending[row].pop(0) for row in due]] = 0.0
        return scores

    def get_forced(self) -> list[bool]:
        """Which rows got a token at the last step that nobody chose."""
        return self.forced[-1]

    def select_rows(self, rows: list[int]) -> None:
        """Keeps these rows of the batch."""
        self.limits = [self.limits[row] for row in rows]
        self.ends = [self.ends[row] for row in rows]
        self.open = [self.open[row] for row in rows]
        self.pending = [self.pending[row] for row in rows]

    def _is_due(self, row: int, tail: list[int], done: int) -> bool:
        limit = self.limits[row]
        if limit.reasoning is None:
            return False
        if self.pending[row]:
            return True
        found = is_block_open(self.tokenizer.decode(tail), limit.delimiters)
        self.open[row] = self.open[row] if found is None else found
        if self.open[row] and done >= limit.reasoning:
            self.pending[row] = list(self.ends[row])
            self.open[row] = False
            return True
        return False


class LogProbRecorder:
    """Last in line: keeps the log-prob of each token that is drawn, with the logits of one token at a time."""

    def __init__(self) -> None:
        self.scores: Tensor | None = None
        self.found: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._record_log_probs(input_ids[:, -1])
        self.scores = scores
        return scores

    def _record_log_probs(self, drawn: Tensor) -> None:
        if self.scores is not None:
            chosen = self.scores.gather(1, drawn[:, None])[:, 0]
            self.found.append(chosen - self.scores.logsumexp(-1))

    def finish(self, drawn: Tensor, closing: ReasoningBudgetProcessor | None) -> Tensor:
        """Log-probs ``[B, steps]``; ``drawn`` ``[B]`` are the ids of the last step."""
        self._record_log_probs(drawn)
        values = torch.stack(self.found, 1)
        if closing is not None:
            values[torch.tensor(closing.forced, device=values.device).T] = FORCED
        return values


class RowLengthCriteria:
    """Stops each row at its own limit."""

    def __init__(self, limits: Sequence[int], width: int) -> None:
        self.limits = torch.tensor(limits)
        self.width = width

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return (input_ids.shape[1] - self.width >= self.limits).to(input_ids.device)
