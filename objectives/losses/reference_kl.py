"""KL to a reference policy, and a penalty on moving away from the policy that sampled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from objectives.divergence import LOG_FLOOR, LOG_RATIO_BOUND, clamp_log_probs, k1, k2
from objectives.losses.term import Term, align_models, average_weighted, find_weighted, place_signal
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


def absolute_difference(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """|log ratio|, the penalty of KL-Cov (arXiv 2505.22617)."""
    return log_ratio.abs()


@dataclass(frozen=True)
class ReferenceKL(Term):
    """KL(pi || pi_ref) from the sampled tokens; give it a coefficient.

    Right gradients (arXiv 2510.01555): k2 alone on-policy; k2 with `detached` off-policy, which is also k1 inside the
    reward; k1 or k3 with `through` on and off policy. k3 alone is GRPO's: unbiased as a value, but its gradient is
    that of the opposite KL. k1 alone has no expected gradient and is refused.
    """

    estimator: Callable = k2
    """k1, k2 or k3."""
    reference: str = "reference"
    """Name of the model that the policy stays near."""
    importance: Literal["none", "detached", "through"] = "none"
    """Multiply by pi / old: not, without its gradient, or with it."""

    def __post_init__(self) -> None:
        if self.estimator is k1 and self.importance != "through":
            raise ValueError(
                f"ReferenceKL.importance: got {self.importance!r} with k1, expected 'through': the gradient of log pi "
                "alone averages to 0. Use k2, or importance: through."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.reference})

    @property
    def reads_distribution(self) -> bool:
        return False

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Metrics: kl_reference (mean estimate, without importance), teacher/clamped (share of reference log-probs)."""
        pair = align_models(student, others, rollouts, name, self.reference)
        if pair is None:
            return Loss(student.nothing, dict.fromkeys(("kl_reference", "teacher/clamped"), student.nothing.detach()))
        mine, theirs = pair
        values = self.estimator(mine.log_probs - clamp_log_probs(theirs.log_probs))
        measured = {"kl_reference": values.detach(), "teacher/clamped": (theirs.log_probs < LOG_FLOOR).to(values.dtype)}
        metrics = {key: average_weighted(value, rollouts, name, mine.index) for key, value in measured.items()}
        if self.importance != "none":
            old = mine.log_probs.detach() if rollouts.old_log_probs is None else rollouts.old_log_probs[mine.index]
            ratio = (mine.log_probs - old).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
            values = values * (ratio if self.importance == "through" else ratio.detach())
        signal = place_signal(clamp_log_probs(theirs.log_probs) - mine.log_probs, rollouts, name, mine.index)
        return Loss(average_weighted(values, rollouts, name, mine.index), metrics, signal)


@dataclass(frozen=True)
class OldPolicyPenalty(Term):
    """A penalty on log(pi / old), which bounds the step within one rollout; exactly on-policy its value is 0."""

    estimator: Callable = k2
    """k2 or absolute_difference."""

    @property
    def reads_distribution(self) -> bool:
        return False

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        rows = find_weighted(student, rollouts, name)
        if not len(rows):
            return Loss(student.nothing)
        old = student.log_probs.detach() if rollouts.old_log_probs is None else rollouts.old_log_probs
        signal = place_signal((old - student.log_probs)[rows], rollouts, name, rows)
        return Loss(average_weighted(self.estimator(student.log_probs - old), rollouts, name), signal=signal)
