"""A reward model as critic: one number for a whole answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fdt.data.tokenization import answer_ids, prompt_ids
from fdt.reward_models.local import Fitted, Local, before, load, logits, tokenised
from fdt.reward_models.scale import Scale, Sigmoid
from feedback.graders import Critic
from feedback.types import Episode, Feedback


@dataclass(frozen=True)
class RewardModel(Critic):
    """Scores the last assistant turn, in its conversation, with a sequence classifier of transformers.

    A head with one output gives a raw reward, which ``scale`` maps to [0, 1]; one with several gives the probability of
    ``label``. The conversation is laid out by the model's own chat template. An answer that does not fit is not judged.
    """

    model: str
    """A folder or hub id with a sequence classifier."""
    scale: Scale = Sigmoid()
    """How a raw reward becomes a score."""
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
        local = load(self.model, "AutoModelForSequenceClassification", self.device)
        fit = Fitted(min(self.max_tokens, local.longest))
        rows = [self._row(episode, local, fit) for episode in episodes]
        fit.report(local.name)
        scores = iter(self._scores(logits(local, [row for row in rows if row], self.budget)))
        return [
            episode if row is None else episode.with_feedback(Feedback("llm", local.name, self.name, next(scores)))
            for episode, row in zip(episodes, rows, strict=True)
        ]

    def _row(self, episode: Episode, local: Local, fit: Fitted) -> list[int] | None:
        spoken = [place for place, turn in enumerate(episode.turns) if turn.role == "assistant"]
        if not spoken:
            return None
        context = tokenised(prompt_ids, before(episode, spoken[-1]), local.tokenizer)
        answer = tokenised(answer_ids, episode.turns[spoken[-1]].text, local.tokenizer)
        return None if context is None or answer is None else fit(context, answer)

    def _scores(self, outputs: list[Tensor]) -> list[float]:
        return [float(self.scale(out)[0]) if len(out) == 1 else float(out.softmax(0)[self.label]) for out in outputs]
