"""A held-out measure of diversity: several sampled answers a prompt, what they solve together and how they differ."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from fdt.evaluation.base import Evaluation, Record, describe_prompt, describe_skills
from fdt.metrics.diversity import extract_solution
from fdt.metrics.step import count_turns
from fdt.rollout.actor import Actor
from fdt.statistics.intervals import compute_mean_interval
from feedback.diversity import compute_unique_share, distinct_n, extract_actions, group_solutions, pass_at_k_turns
from feedback.types import Episode, Task


@dataclass(frozen=True)
class PassAtK(Evaluation):
    """Samples several answers a prompt and has the grader score them; the same draws before and after.

    The first number is the mean score, which is pass@1 where scores are 0 or 1. `pass_at_k` counts an answer as solved
    from `solved` on; a prompt with fewer scored answers than k has none.
    """

    samples: int = 8
    """Answers a prompt."""
    ks: tuple[int, ...] = (1, 8)
    """The k of pass@k; none above `samples`."""
    turns: tuple[int, ...] = ()
    """Turn budgets T of pass@(k,T): what took more turns counts as not solved. Empty: no budget."""
    solved: float = 1.0
    """Score from which an answer counts as solved."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if not self.ks or not 1 <= min(self.ks) <= max(self.ks) <= self.samples:
            raise ValueError(f"PassAtK.ks: got {self.ks}, expected numbers from 1 to `samples`, {self.samples}")

    def __call__(self, tasks: Sequence[Task], actor: Actor) -> list[Record]:
        # Each batch of prompts has a seed of its own, the same before and after.
        seed = zlib.crc32(f"{self.seed} {tasks[0].key if tasks else ''}".encode()) % (2**31 - 1)
        episodes = actor.grade(actor.generate_episodes(tasks, seed, self.samples, counted=False))
        groups = [episodes[start : start + self.samples] for start in range(0, len(episodes), self.samples)]
        return [self._build_record(group) for group in groups]

    def _build_record(self, group: Sequence[Episode]) -> Record:
        task = group[0].task
        scores = [e.score for e in group if not math.isnan(e.score)]
        attempts = [(e.score >= self.solved, count_turns(e)) for e in group if not math.isnan(e.score)]
        texts = [episode.response for episode in group]
        sampled = [value for e in group for turn in e.turns for value in turn.log_probs or ()]
        wrong = [extract_solution(e) for e in group if e.score < self.solved]
        return {
            "id": task.key,
            **describe_prompt(task),
            "response": texts[0],
            "reference": task.reference,
            "score": sum(scores) / len(scores) if scores else None,
            "tokens": len(sampled) / len(group),
            **{
                name: pass_at_k_turns(attempts, k, turns) if len(attempts) >= k else None
                for name, k, turns in self._list_pass_at_k(group)
            },
            "unique_share": compute_unique_share([extract_actions(episode) for episode in group]),
            "solutions": len(set(group_solutions(texts))),
            "right_solutions": len({extract_solution(e) for e in group if e.score >= self.solved}),
            "wrong_unique": replace_nan(compute_unique_share(wrong)) if len(wrong) > 1 else None,
            "distinct_2": replace_nan(distinct_n(texts, 2)),
            # Of what was sampled, -log p estimates the entropy of the distribution that it was drawn from.
            "entropy": -sum(sampled) / len(sampled) if sampled else None,
            "samples": [
                {"response": e.response, "score": replace_nan(e.score), "turns": count_turns(e)}
                | ({"critique": e.critique} if e.critique else {})
                for e in group
            ],
            **describe_skills(group[0]),
        }

    def _list_pass_at_k(self, group: Sequence[Episode]) -> list[tuple[str, int, int]]:
        """Name, k and T of each pass@k."""
        longest = max(count_turns(episode) for episode in group)
        free = [(f"pass_at_{k}", k, longest) for k in self.ks]
        return free + [(f"pass_at_{k}_within_{turns}", k, turns) for k in self.ks for turns in self.turns]

    def summarise_records(self, records: Sequence[Record]) -> dict[str, float]:
        names = [name for name in (records[0] if records else {}) if name.startswith("pass_at_")]
        names += ["unique_share", "solutions", "right_solutions", "wrong_unique", "distinct_2", "entropy", "tokens"]
        return {name: _mean(records, name) for name in ("score", *names)}

    def compute_interval(self, records: Sequence[Record]) -> tuple[float, float] | None:
        scores = [record["score"] for record in records if record["score"] is not None]
        found = compute_mean_interval(scores) if scores else None
        return None if found is None else (found.low, found.high)


def replace_nan(value: float) -> float | None:
    """The number, None where it is NaN."""
    return None if math.isnan(value) else value


def _mean(records: Sequence[Record], name: str) -> float:
    values = [record[name] for record in records if record.get(name) is not None]
    return sum(values) / len(values) if values else math.nan
