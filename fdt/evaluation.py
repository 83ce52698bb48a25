"""Held-out measures: what a policy is worth before and after, one row a prompt, so that differences are paired."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from fdt.actor import Actor
from fdt.statistics import mean_interval, ratio_interval
from fdt.text import answer_ids, prompt_ids
from feedback.types import Episode, Task

Record = dict[str, Any]


class Evaluation(ABC):
    """Measures tasks; the same number of calls must be made on every rank."""

    metric: str
    """Name of the headline number."""

    @abstractmethod
    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        """One record a task, with plain values."""

    @abstractmethod
    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        """Numbers over all records."""

    @abstractmethod
    def interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        """95 % bootstrap interval of the first number of ``summary`` over prompts; None without records."""


class Answers(Evaluation):
    """Generates one greedy answer a prompt and has the critic score it."""

    metric = "score"

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        episodes = actor.act(tasks, seed=None)
        sums = actor.answer_log_probs(episodes)
        return [self._record(e, value) for e, value in zip(episodes, sums, strict=True)]

    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        scores = [r["score"] for r in records if r["score"] is not None]
        return {
            "score": sum(scores) / len(scores) if scores else math.nan,
            "response_length": sum(r["tokens"] for r in records) / len(records) if records else math.nan,
        }

    def interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        scores = [r["score"] for r in records if r["score"] is not None]
        found = mean_interval(scores) if scores else None
        return None if found is None else (found.low, found.high)

    def _record(self, episode: Episode, log_prob: float) -> Record:
        return {
            "id": episode.task.key,
            "prompt": episode.task.messages[-1]["content"],
            "response": episode.response,
            "score": None if math.isnan(episode.score) else episode.score,
            "log_prob": None if math.isnan(log_prob) else log_prob,
            "tokens": len(episode.turns[-1].ids or ()),
            "reference": episode.task.reference,
        }


class Likelihood(Evaluation):
    """Negative log-likelihood (nats) of the reference answer given the prompt, summed over its tokens."""

    metric = "nll"

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        tokenizer = actor.policy.tokenizer
        kept = [task for task in tasks if task.reference]
        rows = [(prompt_ids(t.messages, tokenizer), answer_ids(t.reference or "", tokenizer)) for t in kept]
        sums, counts = actor.row_log_probs(rows)
        return [
            {"id": t.key, "prompt": t.messages[-1]["content"], "reference": t.reference, "nll_sum": -s, "tokens": n}
            for t, s, n in zip(kept, sums, counts, strict=True)
        ]

    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        tokens = sum(r["tokens"] for r in records)
        return {"nll": sum(r["nll_sum"] for r in records) / tokens if tokens else math.nan}

    def interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        if not records:
            return None
        found = ratio_interval([r["nll_sum"] for r in records], [r["tokens"] for r in records])
        return found.low, found.high
