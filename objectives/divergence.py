"""Divergences between a student S and a teacher T over the last axis, and single-sample estimators of KL(S || R).

Each takes log-probs [..., K] and gives [...] nats. The outcomes may be the whole vocabulary, or a support with the rest
merged into one more outcome (`coarsen`): merging is a coarse-graining, so any divergence of the merged distributions
is a lower bound on the full one, exact at K = V. Teacher log-probs are floored at `LOG_FLOOR`: an outcome that the
teacher rules out (-inf, or a logit of -1e4) costs a bounded number of nats and a finite gradient; terms report
the share of tokens with such outcomes as `teacher/clamped`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG_FLOOR = -100.0
"""Least teacher log-prob [nats]; exp(-100) is below what float32 holds as a normal number."""


LOG_RATIO_BOUND = 20.0
"""Bound on |log ratio| [nats]: exp(20) is finite in every dtype used for losses, and far outside any clip."""


def clamp_log_probs(teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o K"]:
    """Teacher log-probs, none below `LOG_FLOOR`."""
    return teacher.clamp(min=LOG_FLOOR)


def is_clamped(teacher: Float[Tensor, "*o K"]) -> Bool[Tensor, "*o"]:
    """Where any outcome's teacher log-prob lies below the floor."""
    return teacher.amin(-1) < LOG_FLOOR


def reverse_kl(student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
    """KL(S || T) = sum S (log S - log T): mode-seeking."""
    return (student.exp() * (student - clamp_log_probs(teacher))).sum(-1)


def forward_kl(student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
    """KL(T || S) = sum T (log T - log S): mass-covering."""
    teacher = clamp_log_probs(teacher)
    return (teacher.exp() * (teacher - student)).sum(-1)


def js(student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
    """Jensen-Shannon: (KL(S || M) + KL(T || M)) / 2 with M = (S + T) / 2; at most log 2."""
    teacher = clamp_log_probs(teacher)
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    return ((student.exp() * (student - mixture)).sum(-1) + (teacher.exp() * (teacher - mixture)).sum(-1)) / 2


@dataclass(frozen=True)
class GeneralisedJS:
    """beta KL(T || M) + (1 - beta) KL(S || M) with M = beta T + (1 - beta) S (GKD, arXiv 2306.13649); js at 1/2.

    It tends to 0 as beta nears 0 or 1, so beta does not interpolate between the two KLs; the end points are refused.
    """

    beta: float = 0.5
    """Weight of the teacher."""

    def __post_init__(self) -> None:
        if not 0 < self.beta < 1:
            raise ValueError(
                f"GeneralisedJS.beta: got {self.beta}, expected strictly between 0 and 1. "
                "For a KL use objectives.forward_kl or objectives.reverse_kl."
            )

    def __call__(self, student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
        teacher = clamp_log_probs(teacher)
        mixture = mix_log_probs(student, teacher, self.beta)
        forward = (teacher.exp() * (teacher - mixture)).sum(-1)
        reverse = (student.exp() * (student - mixture)).sum(-1)
        return self.beta * forward + (1 - self.beta) * reverse


@dataclass(frozen=True)
class SkewedForwardKL:
    """KL(T || alpha T + (1 - alpha) S) (DistiLLM, arXiv 2402.03898); forward_kl at alpha 0, bounded by -log alpha."""

    alpha: float = 0.1
    """Share of the teacher in the mixture."""

    def __call__(self, student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
        return forward_kl(mix_log_probs(student, clamp_log_probs(teacher), self.alpha), teacher)


@dataclass(frozen=True)
class SkewedReverseKL:
    """KL(S || alpha S + (1 - alpha) T) (DistiLLM, arXiv 2402.03898); reverse_kl at alpha 0, bounded by -log alpha."""

    alpha: float = 0.1
    """Share of the student in the mixture."""

    def __call__(self, student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
        mixture = mix_log_probs(student, clamp_log_probs(teacher), 1 - self.alpha)
        return (student.exp() * (student - mixture)).sum(-1)


def mix_log_probs(
    student: Float[Tensor, "*o K"], teacher: Float[Tensor, "*o K"], share: float
) -> Float[Tensor, "*o K"]:
    """log of share T + (1 - share) S."""
    if share in (0.0, 1.0):
        return teacher if share else student
    return torch.logaddexp(student + math.log1p(-share), teacher + math.log(share))


def renormalise(log_probs: Float[Tensor, "*o K"]) -> Float[Tensor, "*o K"]:
    """The distribution given that one of the listed outcomes happens."""
    return log_probs - log_probs.logsumexp(-1, keepdim=True)


def compute_tail(log_probs: Float[Tensor, "*o K"]) -> Float[Tensor, "*o"]:
    """log(1 - sum of the listed probabilities).

    The listed mass is held one rounding step below 1, so the tail is at least that step and never -inf.
    """
    listed = log_probs.logsumexp(-1).clamp(max=-torch.finfo(log_probs.dtype).eps)
    return torch.log(-torch.expm1(listed))


def sum_unlisted(log_probs: Float[Tensor, "n V"], chooser: Float[Tensor, "n V"], k: int) -> Float[Tensor, "n"]:
    """log of the summed probabilities of all outcomes but the `chooser`'s likeliest k, whatever their size."""
    listed = chooser.detach().topk(k, -1).indices
    return log_probs.scatter(-1, listed, -torch.inf).logsumexp(-1)


def coarsen(log_probs: Float[Tensor, "*o K"], tail: Float[Tensor, "*o"] | None = None) -> Float[Tensor, "*o K1"]:
    """The listed outcomes and, as one more, all others merged; `tail` is their log-prob, where it is known better than
    as 1 - sum of the listed."""
    tail = compute_tail(log_probs) if tail is None else tail
    return torch.cat([log_probs, tail.unsqueeze(-1)], -1)


def k1(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(S/R) of a token sampled from S: unbiased value; as a loss it has no expected gradient."""
    return log_ratio


def k2(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(S/R)^2 / 2: biased value, but on-policy its expected gradient is that of KL(S || R) (arXiv 2510.01555)."""
    return log_ratio.square() / 2


def k3(log_ratio: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """R/S - 1 - log(R/S): unbiased value, never negative; as a loss its gradient is that of KL(R || S).

    R/S is held below exp(LOG_RATIO_BOUND).
    """
    return torch.expm1((-log_ratio).clamp(max=LOG_RATIO_BOUND)) + log_ratio
