"""Policy gradient on answers that others wrote into the group: they have a score, and no known probability."""

from dataclasses import dataclass

import torch
from torch import Tensor

from objectives.losses.term import Term, average_weighted, find_weighted, place_signal
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


@dataclass(frozen=True)
class OffPolicy(Term):
    """-A f(pi) per token, with f = pi / (pi + shape), and no ratio: there is no pi_old to divide by.

    A rewrite was drawn under its critique, or by another model, so pi / pi_old is unknown. Taking pi_old for 1 and
    shaping what remains (LUFFY, arXiv 2504.14945; Critique-GRPO, arXiv 2506.03106) gives d f / d log pi = f (1 - f): at
    most 1/4, largest where pi = shape, and small both for likely and for very unlikely tokens. There
    is no clip, since nothing is compared. With `shape` null the loss is -A log pi, whose weight does not depend on pi
    (the rewrite as if on-policy: RLTF, arXiv 2602.02482).
    """

    mask: str = "off_policy"
    """Which mask of the rollouts selects this term's tokens."""
    shape: float | None = 0.1
    """Probability at which the gradient of a token is largest (LUFFY: 0.1); null: -A log pi."""

    def __post_init__(self) -> None:
        if self.shape is not None and self.shape <= 0:
            raise ValueError(f"OffPolicy.shape: got {self.shape}, expected a probability above 0, or null")

    @property
    def reads_distribution(self) -> bool:
        return False

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Metric: probability, the mean of pi on these tokens."""
        rows = find_weighted(student, rollouts, name)
        if not len(rows):
            return Loss(student.nothing, {"probability": student.nothing.detach()})
        log_probs = student.log_probs[rows]
        losses = -rollouts.advantages[rows] * self.shape_probability(log_probs)
        known = average_weighted(log_probs.detach().exp(), rollouts, name, rows)
        signal = place_signal(rollouts.advantages[rows], rollouts, name, rows)
        return Loss(average_weighted(losses, rollouts, name, rows), {"probability": known}, signal, needs_signal=True)

    def shape_probability(self, log_probs: Tensor) -> Tensor:
        """f, or log pi where there is no shape."""
        if self.shape is None:
            return log_probs
        return torch.sigmoid(log_probs - torch.tensor(self.shape, dtype=log_probs.dtype).log())
