"""Held-out measures: how well a policy does before and after, one row a prompt, so that differences are paired."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from fdt.data.chat.calls import get_tools
from fdt.data.rows import Row
from fdt.data.tokenization import tokenize_answer, tokenize_prompt
from fdt.rollout.actor import Actor
from fdt.statistics.intervals import compute_mean_interval, compute_ratio_interval
from fdt.statistics.preference import compute_preference
from feedback.types import DONE, OUT_OF_CONTEXT, TURN_LIMIT, Episode, Feedback, Task

Record = dict[str, Any]


class Evaluation(ABC):
    """Measures tasks; the same number of calls must be made on every rank."""

    @abstractmethod
    def __call__(self, tasks: Sequence[Task], actor: Actor) -> Sequence[Record | None]:
        """One record a task, with plain values; None where the task cannot be measured."""

    @abstractmethod
    def summarise_records(self, records: Sequence[Record]) -> dict[str, float]:
        """Numbers over all records."""

    @abstractmethod
    def compute_interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        """95 % bootstrap interval of the first number of ``summarise_records`` over prompts; None without records."""

    def compute_quality(self, records: Sequence[Record]) -> float:
        """The first number of ``summarise_records``, turned so that higher is better."""
        return next(iter(self.summarise_records(records).values()))


class Answers(Evaluation):
    """Generates one greedy answer a prompt and has the grader score it."""

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        episodes = actor.grade(actor.generate_episodes(tasks, seed=None))
        sums = actor.compute_answer_log_probs(episodes)
        return [self._build_record(e, value) for e, value in zip(episodes, sums, strict=True)]

    def summarise_records(self, records: Sequence[Record]) -> dict[str, float]:
        scores = [r["score"] for r in records if r["score"] is not None]
        return {
            "score": sum(scores) / len(scores) if scores else math.nan,
            "response_length": sum(r["tokens"] for r in records) / len(records) if records else math.nan,
        } | self._summarise_turns(records)

    def _summarise_turns(self, records: Sequence[Record]) -> dict[str, float]:
        """Where any episode had several turns: their mean number, and how many ran out of turns or context."""
        if not any("turns" in r for r in records):
            return {}
        ends = [r.get("ended", DONE) for r in records]
        return {
            "turns": sum(r.get("turns", 1) for r in records) / len(records),
            "turn_limit": ends.count(TURN_LIMIT) / len(records),
            "out_of_context": ends.count(OUT_OF_CONTEXT) / len(records),
        }

    def compute_interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        scores = [r["score"] for r in records if r["score"] is not None]
        found = compute_mean_interval(scores) if scores else None
        return None if found is None else (found.low, found.high)

    def _build_record(self, episode: Episode, log_prob: float) -> Record:
        return {
            "id": episode.task.key,
            **describe_prompt(episode.task),
            "response": episode.response,
            "score": None if math.isnan(episode.score) else episode.score,
            "log_prob": None if math.isnan(log_prob) else log_prob,
            "tokens": sum(len(turn.ids or ()) for turn in episode.turns),
            "reference": episode.task.reference,
            "scores": {name: value for name, value in episode.scores.items() if not math.isnan(value)},
            **({"critique": episode.critique} if episode.critique else {}),
            **describe_skills(episode),
            **describe_turns(episode),
        }


def describe_prompt(task: Task) -> Record:
    """What was read: its last message, and where that is not all of it every message."""
    messages = list(task.messages)
    return {"prompt": messages[-1]["content"]} | ({"messages": messages} if len(messages) > 1 else {})


def describe_skills(episode: Episode) -> Record:
    """Which skills were retrieved for an episode, how similar they are and whether the policy read them; nothing where
    there are none."""
    found = [{"id": skill.id, "similarity": skill.similarity, "shown": skill.shown} for skill in episode.skills]
    return {"skills": found} if found else {}


def describe_turns(episode: Episode) -> Record:
    """How an episode of several turns went, with tool calls and what was said of each turn; nothing for one that was
    over after its first and called no tool."""
    own = len(episode.policy_turns)
    if own == 1 and episode.end_reason in (None, DONE) and not any(turn.calls for turn in episode.turns):
        return {}
    conversation: list[Record] = [{"role": turn.role, "text": turn.text} for turn in episode.turns]
    for described, turn in zip(conversation, episode.turns, strict=True):
        if turn.calls:
            described["calls"] = list(turn.calls)
    for number, place in enumerate(episode.policy_places):
        judged = [_describe_feedback(item) for item in episode.feedback if item.turn == number]
        if judged:
            conversation[place]["feedback"] = judged
    return {"turns": own, "ended": episode.end_reason, "conversation": conversation}


def _describe_feedback(item: Feedback) -> Record:
    return {
        "source": item.source,
        "annotator": item.annotator,
        "name": item.name,
        "score": None if math.isnan(item.score) else item.score,
        "text": item.text,
    }


class Likelihood(Evaluation):
    """Negative log-likelihood (nats) of the reference answer given the prompt, summed over its tokens.

    Where the records hold a worse answer to the same prompt (the one that was corrected, or the one rated worst), its
    likelihood is measured too: `preferred` is the share of such prompts whose reference is likelier per token, and
    `margin` by how many nats per token, in the mean. Imitation of references moves `nll` by their style alone; a policy
    that tells good from bad moves the margin.
    """

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record | None]:
        pairs = [self._build_rows(task, actor.policy.tokenizer) for task in tasks]
        most = actor.policy.positions
        good = _select_fitting([row for row, _ in pairs], most, "references")
        worse = _select_fitting([row for _, row in pairs], most, "worse answers")
        rows = [*good, *worse]
        found = dict(zip(map(id, rows), zip(*actor.compute_row_log_probs(rows), strict=True), strict=True))
        measured = [(found.get(id(own)), found.get(id(other))) for own, other in pairs]
        return [
            None if own is None else self._build_record(task, own, other)
            for task, (own, other) in zip(tasks, measured, strict=True)
        ]

    def _build_rows(self, task: Task, tokenizer: Any) -> tuple[Row | None, Row | None]:
        """The rows of a task's reference and of its worse answer; None for what it lacks."""
        if not task.reference:
            return None, None
        prompt = tokenize_prompt(task.messages, tokenizer, get_tools(task))
        good, worse = (
            Row.from_context(prompt, tokenize_answer(text, tokenizer, context=prompt)) if text else None
            for text in (task.reference, task.rejected)
        )
        return good, worse

    def _build_record(self, task: Task, good: tuple[float, int], worse: tuple[float, int] | None) -> Record:
        read = describe_prompt(task)
        record = {"id": task.key, **read, "reference": task.reference, "nll_sum": -good[0], "tokens": good[1]}
        if worse is None:
            return record
        return record | {"rejected": task.rejected, "rejected_nll_sum": -worse[0], "rejected_tokens": worse[1]}

    def summarise_records(self, records: Sequence[Record]) -> dict[str, float]:
        tokens = sum(r["tokens"] for r in records)
        found = {"nll": sum(r["nll_sum"] for r in records) / tokens if tokens else math.nan}
        preference = compute_preference(records)
        return found if preference is None else found | {"preferred": preference.share, "margin": preference.margin}

    def compute_quality(self, records: Sequence[Record]) -> float:
        return -super().compute_quality(records)

    def compute_interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        if not records:
            return None
        found = compute_ratio_interval([r["nll_sum"] for r in records], [r["tokens"] for r in records])
        return found.low, found.high


def _select_fitting(rows: Sequence[Row | None], most: int | None, named: str) -> list[Row]:
    """The rows that there are and that a model with so many positions holds; of the others it is warned."""
    kept = [row for row in rows if row is not None]
    fits = [row for row in kept if most is None or len(row.ids) <= most]
    if len(fits) < len(kept):
        rank_zero_warn(f"{len(kept) - len(fits)} {named} are not measured: longer than the model's {most} positions")
    return fits
