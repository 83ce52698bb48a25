"""The actor: tasks become episodes. It answers with the current policy, has the answers judged, and rewrites failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from fdt.batch import Batch, View, untrained
from fdt.collate import Collator
from fdt.engines import Engine, Sample
from fdt.policy import Policy
from fdt.scoring import log_probs
from fdt.text import prompt_ids
from feedback.critics import Critic
from feedback.rewriter import Rewriter
from feedback.types import Episode, Message, Task, Turn


@dataclass
class Actor:
    """What one rank needs to make experience.

    Args:
        policy: current weights.
        engine: generates.
        collator: turns episodes into a batch.
        critic: judges fresh answers; None leaves them unscored.
        rewriter: gate of the policy's own revisions; None rewrites nothing.
        budget: tokens of one forward when log-probs are computed.
        precision: the context in which training runs its forwards (autocast under bf16-mixed), so that log-probs kept
            here are those that training would compute.
    """

    policy: Policy
    engine: Engine
    collator: Collator
    critic: Critic | None = None
    rewriter: Rewriter | None = None
    budget: int = 4096
    precision: Callable[[], AbstractContextManager] = nullcontext
    refused: Counter[str] = field(default_factory=Counter)

    def act(self, tasks: Sequence[Task], seed: int | None, generations: int = 1) -> list[Episode]:
        """Answers each task ``generations`` times (greedily where seed is None) and has the answers judged."""
        tasks = [task for task in tasks for _ in range(generations)]
        tokenizer = self.policy.tokenizer
        answers = self.engine.generate(self.policy, [prompt_ids(t.messages, tokenizer) for t in tasks], seed)
        episodes = [
            Episode(id=f"{task.key}#{n % generations}", task=task, turns=(self._turn(said),), meta={})
            for n, (task, said) in enumerate(zip(tasks, answers, strict=True))
        ]
        return self.critic(episodes) if self.critic is not None else episodes

    def rewrite(self, episodes: list[Episode]) -> list[Episode]:
        """Lets the policy rewrite what was criticised; the gate's refusals are counted by reason in ``refused``.

        Drafts are decoded greedily: the best the policy can do with the critique, and about twice as often accepted
        as samples.
        """
        if self.rewriter is None:
            return episodes
        prompts = self.rewriter.prompts(episodes)
        drafts = self._draft([p for p in prompts if p is not None])
        remaining = iter(drafts)
        placed = [next(remaining) if p is not None else None for p in prompts]
        episodes, refused = self.rewriter.accept(episodes, placed)
        self.refused.update(refused)
        return episodes

    def _draft(self, prompts: list[list[Message]]) -> list[str]:
        tokenizer = self.policy.tokenizer
        answers = self.engine.generate(self.policy, [prompt_ids(m, tokenizer) for m in prompts], None)
        return [tokenizer.decode(answer.ids, skip_special_tokens=True).strip() for answer in answers]

    def _turn(self, said: Sample) -> Turn:
        text = self.policy.tokenizer.decode(said.ids, skip_special_tokens=True)
        return Turn(role="assistant", text=text, ids=said.ids, log_probs=said.log_probs, sampled=True)

    def answer_log_probs(self, episodes: Sequence[Episode]) -> list[float]:
        """Sum of log-probs (nats) of each episode's answer under the current policy; NaN for an empty answer."""
        rows = [self.collator.student(episode) for episode in episodes]
        values, counts = self.row_log_probs(rows)
        return [value if count else math.nan for value, count in zip(values, counts, strict=True)]

    def row_log_probs(self, rows: list[tuple[list[int], list[int]]]) -> tuple[list[float], list[int]]:
        """Sum of log-probs and number of target tokens of each (context, target) row."""
        eos = self.policy.tokenizer.eos_token_id
        view = View.of(rows or [([eos], [eos])], eos)
        batch = Batch(student=view.to(self.policy.device), rollouts=untrained(view.counts))
        with self.precision():
            values = log_probs(batch, self.policy.score, self.budget)
        counts = view.counts
        row = torch.arange(len(counts)).repeat_interleave(counts)
        sums = torch.zeros(len(counts)).index_add(0, row, values.cpu())
        return sums.tolist()[: len(rows)], counts.tolist()[: len(rows)]

    def remember(self, batch: Batch) -> Batch:
        """Keeps the log-probs that the policy gives its own tokens now, for updates that come after others."""
        with self.precision():
            found = log_probs(batch.to(self.policy.device), self.policy.score, self.budget)
        return replace(batch, rollouts=replace(batch.rollouts, old=found.cpu()))
