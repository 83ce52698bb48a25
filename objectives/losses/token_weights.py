"""Token weights: factors on a term's tokens that are known only after the forward pass.

Tokens whose factor is 0 stay in the term's denominator.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives import segments
from objectives.gates.rows import get_score
from objectives.types import Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


class TokenWeight(ABC):
    """Called with n tokens of a term; gives a factor [n] without gradient."""

    needs_teacher: bool = False
    """Whether it compares with a teacher, so that a term without one cannot use it."""
    reads_distribution: bool = True
    """Whether it reads more of a distribution than the log-prob of the sampled token, as `Term.reads_distribution`."""

    @abstractmethod
    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        """
        Args:
            student: the policy on these n tokens.
            teacher: the teacher on the same n tokens; None in terms without one.
            rollouts: these n tokens, with the advantages that the term trains with.
        """


@dataclass(frozen=True)
class TeacherConfidence(TokenWeight):
    """exp(-beta H(T)), with the teacher's entropy in nats: a certain teacher counts more (SRPO, arXiv 2604.02288).

    The weights are not normalised over tokens; the paper's own normalisation is not known to us.
    """

    beta: float = 1.0
    """How fast the weight falls with the entropy."""
    needs_teacher = True

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        return (-self.beta * check_teacher(self, teacher).entropy).exp()


@dataclass(frozen=True)
class SupportOverlap(TokenWeight):
    """1 where student and teacher share at least `min_share` of their k likeliest outcomes, else 0."""

    k: int = 8
    """Outcomes compared."""
    min_share: float = 0.25
    """Share of them that must be common."""
    needs_teacher = True

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        teacher = check_teacher(self, teacher)
        shared = count_common(student.topk(self.k)[0], teacher.topk(self.k)[0])
        return (shared >= self.min_share * self.k).to(teacher.entropy.dtype)


@dataclass(frozen=True)
class OffPolicyMask(TokenWeight):
    """0 on tokens with A < 0 of rows that the policy has moved away from: mean(log old - log pi) > limit.

    OPSM (DeepSeek-V3.2, arXiv 2512.02556), which leaves the limit open.
    """

    limit: float = 0.5
    """Greatest mean drop in log-prob of a row [nats]."""
    reads_distribution = False

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        now = student.log_probs.detach()
        old = get_old_log_probs(student, rollouts)
        row = rollouts.episode
        drop = segments.mean(old - now, row, len(rollouts.task))[row]
        return (~((rollouts.advantages < 0) & (drop > self.limit))).to(now.dtype)


@dataclass(frozen=True)
class ProbabilityShift(TokenWeight):
    """0 on tokens whose probability has moved by more than `limit` in the direction of A (DPPO, arXiv 2602.04879)."""

    limit: float = 0.2
    """Greatest change of probability."""
    reads_distribution = False

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        now = student.log_probs.detach()
        shift = now.exp() - get_old_log_probs(student, rollouts).exp()
        advantages = rollouts.advantages
        moved = ((shift > self.limit) & (advantages > 0)) | ((shift < -self.limit) & (advantages < 0))
        return (~moved).to(now.dtype)


@dataclass(frozen=True)
class PrefixTrust(TokenWeight):
    """The product over the row's earlier tokens u < t of min(1, T(y_u) / S(y_u)): after a token that the teacher would
    not have written, its judgement of the rest counts no more than its own chance of having come that far."""

    needs_teacher = True
    reads_distribution = False

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        ratio = check_teacher(self, teacher).log_probs.detach() - student.log_probs.detach()
        trust = ratio.clamp(max=0.0).double()
        before = trust.cumsum(0) - trust
        row = rollouts.episode
        first = torch.ones_like(row, dtype=torch.bool)
        first[1:] = row[1:] != row[:-1]
        start = before[first][first.cumsum(0) - 1]
        return (before - start).exp().to(ratio.dtype)


@dataclass(frozen=True)
class ScoreAgreement(TokenWeight):
    """How far a row's critique and its score say the same: s a + (1 - s)(1 - a), with the score s held within [0, 1]
    and a = min(1, T(y) / S(y)) of the whole answer, the chance that the hinted teacher lets it stand (as in speculative
    sampling, arXiv 2211.17192).

    A critique that would reject a right answer, or keep a wrong one, is taken for wrong this once, whoever wrote it. 1
    where there is no score. Ours.
    """

    score: str = "score"
    """Name of the score."""
    needs_teacher = True
    reads_distribution = False

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        ratio = check_teacher(self, teacher).log_probs.detach() - student.log_probs.detach()
        row = rollouts.episode
        accepted = compute_acceptance(ratio, row, len(rollouts.task))
        score = get_score(rollouts, self.score).clamp(0.0, 1.0)
        agreed = (score * accepted + (1 - score) * (1 - accepted)).nan_to_num(1.0)
        return agreed[row].to(ratio.dtype)


@dataclass(frozen=True)
class Product(TokenWeight):
    """The product of several token weights."""

    weights: Sequence[TokenWeight]
    """The factors."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("Product.weights: got none, expected at least one token weight")

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]
        return any(weight.needs_teacher for weight in self.weights)

    @property
    def reads_distribution(self) -> bool:  # type: ignore[override]
        return any(weight.reads_distribution for weight in self.weights)

    def __call__(self, student: TokenLogProbs, teacher: TokenLogProbs | None, rollouts: Rollouts) -> Float[Tensor, "n"]:
        first, *others = (weight(student, teacher, rollouts) for weight in self.weights)
        return math.prod(others, start=first)


def compute_acceptance(log_ratio: Float[Tensor, "n"], row: Int[Tensor, "n"], rows: int) -> Float[Tensor, "rows"]:
    """min(1, T(y) / S(y)) of each row's whole answer from log T - log S of its tokens; 1 for a row without any."""
    return segments.total(log_ratio.float(), row, rows).clamp(max=0).exp()


def check_teacher(weight: TokenWeight, teacher: TokenLogProbs | None) -> TokenLogProbs:
    """The teacher; raises ValueError where the term has none."""
    if teacher is None:
        raise ValueError(
            f"{type(weight).__name__}: got a term without a teacher. Use it in a term that has one, such as Distill."
        )
    return teacher


def apply_weight(losses: Float[Tensor, "n"], weight: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Losses times weight; exactly 0 where the weight is, since 0 times NaN would be NaN."""
    weight = weight.detach().to(losses.dtype)
    return (losses * weight).where(weight != 0, 0.0)


def get_old_log_probs(student: TokenLogProbs, rollouts: Rollouts) -> Float[Tensor, "n"]:
    """Log-probs [n] of whoever sampled these tokens; the student's own where it did."""
    return student.log_probs.detach() if rollouts.old_log_probs is None else rollouts.old_log_probs


def count_common(mine: Int[Tensor, "n k"], theirs: Int[Tensor, "n k"]) -> Int[Tensor, "n"]:
    """How many outcomes two supports share."""
    return (mine[:, :, None] == theirs[:, None]).sum((1, 2))
