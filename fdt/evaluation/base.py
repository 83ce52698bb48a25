"""Held-out measures: what a policy is worth before and after, one row a prompt, so that differences are paired."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from fdt.data.rows import Row
from fdt.data.tokenization import answer_ids, prompt_ids
from fdt.rollout.actor import Actor
from fdt.rollout.limits import DONE, ENDED, OUT_OF_CONTEXT, TURN_LIMIT
from fdt.statistics.intervals import mean_interval, ratio_interval
from feedback.types import Episode, Task

Record = dict[str, Any]


class Evaluation(ABC):
    """Measures tasks; the same number of calls must be made on every rank."""

    @abstractmethod
    def __call__(self, tasks: Sequence[Task], actor: Actor) -> Sequence[Record | None]:
        """One record a task, with plain values; None where the task cannot be measured."""

    @abstractmethod
    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        """Numbers over all records."""

    @abstractmethod
    def interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        """95 % bootstrap interval of the first number of ``summary`` over prompts; None without records."""

    def quality(self, records: Sequence[Record]) -> float:
        """The first number of ``summary``, turned so that higher is better."""
        return next(iter(self.summary(records).values()))


class Answers(Evaluation):
    """Generates one greedy answer a prompt and has the critic score it."""

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        episodes = actor.act(tasks, seed=None)
        sums = actor.answer_log_probs(episodes)
        return [self._record(e, value) for e, value in zip(episodes, sums, strict=True)]

    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        scores = [r["score"] for r in records if r["score"] is not None]
        return {
            "score": sum(scores) / len(scores) if scores else math.nan,
            "response_length": sum(r["tokens"] for r in records) / len(records) if records else math.nan,
        } | self._courses(records)

    def _courses(self, records: Sequence[Record]) -> dict[str, float]:
        """Where any episode had several turns: their mean number, and how many ran out of turns or context."""
        if not any("turns" in r for r in records):
            return {}
        ends = [r.get("ended", DONE) for r in records]
        return {
            "turns": sum(r.get("turns", 1) for r in records) / len(records),
            "turn_limit": ends.count(TURN_LIMIT) / len(records),
            "out_of_context": ends.count(OUT_OF_CONTEXT) / len(records),
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
            "tokens": sum(len(turn.ids or ()) for turn in episode.turns),
            "reference": episode.task.reference,
            "scores": named_scores(episode),
            **course(episode),
        }


def course(episode: Episode) -> Record:
    """How an episode of several turns went; nothing for one that was over after its first."""
    own = sum(turn.role == "assistant" for turn in episode.turns)
    if own == 1 and episode.meta.get(ENDED, DONE) == DONE:
        return {}
    said = [{"role": turn.role, "text": turn.text} for turn in episode.turns]
    return {"turns": own, "ended": episode.meta.get(ENDED), "conversation": said}


def named_scores(episode: Episode) -> dict[str, float]:
    """Mean of the scores of each name that judge the whole episode, such as a stated "confidence"; only what is there."""
    found: dict[str, list[float]] = {}
    for item in episode.feedback:
        if item.step is None and not math.isnan(item.score):
            found.setdefault(item.name, []).append(item.score)
    return {name: sum(scores) / len(scores) for name, scores in found.items()}


class Likelihood(Evaluation):
    """Negative log-likelihood (nats) of the reference answer given the prompt, summed over its tokens."""

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record | None]:
        tokenizer = actor.policy.tokenizer
        kept = [task for task in tasks if task.reference]
        rows = [Row.of(prompt_ids(t.messages, tokenizer), answer_ids(t.reference or "", tokenizer)) for t in kept]
        sums, counts = actor.row_log_probs(rows)
        found = iter(zip(sums, counts, strict=True))
        return [self._record(task, *next(found)) if task.reference else None for task in tasks]

    def _record(self, task: Task, log_prob: float, tokens: int) -> Record:
        prompt = task.messages[-1]["content"]
        return {"id": task.key, "prompt": prompt, "reference": task.reference, "nll_sum": -log_prob, "tokens": tokens}

    def summary(self, records: Sequence[Record]) -> dict[str, float]:
        tokens = sum(r["tokens"] for r in records)
        return {"nll": sum(r["nll_sum"] for r in records) / tokens if tokens else math.nan}

    def quality(self, records: Sequence[Record]) -> float:
        return -super().quality(records)

    def interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        if not records:
            return None
        found = ratio_interval([r["nll_sum"] for r in records], [r["tokens"] for r in records])
        return found.low, found.high
