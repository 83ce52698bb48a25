"""A reward model as grader: one number for a whole answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fdt.data.tokenization import tokenize_answer, tokenize_prompt
from fdt.reward_models.local import (
    LocalClassifier,
    RowTruncator,
    build_context,
    compute_logits,
    load_classifier,
    try_tokenize,
)
from fdt.reward_models.scale import sigmoid
from feedback.graders import Grader
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class RewardModel(Grader):
    """Scores the last assistant turn, in its conversation, with a sequence classifier of transformers.

    A head with one output gives a raw reward, which ``scale`` maps to [0, 1]; one with several gives the probability of
    ``label``. The conversation is laid out by the model's own chat template. An answer that does not fit gets no score.
    """

    model: str
    """A folder or hub id with a sequence classifier."""
    scale: Callable[[Tensor], Any] = sigmoid
    """From raw rewards [n] to scores [n] in [0, 1]: fdt.reward_models.sigmoid, Sigmoid, MinMax or a function."""
    label: int = -1
    """Of a head with several outputs: the one whose probability is the score; -1 is the last."""
    max_tokens: int = 4096
    """Longest row [tokens]; a longer conversation loses its beginning, which is warned about with the count."""
    budget: int = 16384
    """Tokens of one forward, padding included."""
    device: str = "auto"
    """auto: the process's GPU, else the CPU. Or a device of torch."""
    name: str = "reward"
    """Name of the score."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one ``Feedback`` under ``name`` to each episode that could be read."""
        local = load_classifier(self.model, "AutoModelForSequenceClassification", self.device)
        fit = RowTruncator(min(self.max_tokens, local.max_length))
        rows = [self._build_row(episode, local, fit) for episode in episodes]
        fit.warn_truncated(local.name)
        scores = iter(self._compute_scores(compute_logits(local, [row for row in rows if row], self.budget)))
        return [
            episode if row is None else episode.add_feedback(Feedback("llm", local.name, self.name, next(scores)))
            for episode, row in zip(episodes, rows, strict=True)
        ]

    def _build_row(self, episode: Episode, local: LocalClassifier, fit: RowTruncator) -> list[int] | None:
        own = episode.policy_places
        if not own:
            return None
        context = try_tokenize(tokenize_prompt, build_context(episode, own[-1]), local.tokenizer)
        answer = try_tokenize(tokenize_answer, episode.turns[own[-1]].text, local.tokenizer)
        return None if context is None or answer is None else fit(context, answer)

    def _compute_scores(self, outputs: list[Tensor]) -> list[float]:
        return [float(self.scale(out)[0]) if len(out) == 1 else float(out.softmax(0)[self.label]) for out in outputs]
