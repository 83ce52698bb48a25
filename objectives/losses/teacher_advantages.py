"""Policy gradients whose advantages a teacher shapes, token by token."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives.divergence import LOG_FLOOR, LOG_RATIO_BOUND, clamp_log_probs
from objectives.losses.policy_gradient import Clip, PolicyGradient, ppo_clip
from objectives.losses.term import Term, align_models, average_weighted, place_signal
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


def compute_log_ratio(
    student: TokenLogProbs, teacher: TokenLogProbs | None, base: Float[Tensor, "N"], rows: Int[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """log T - base of the sampled tokens at `rows`, log T clamped; 0, which changes nothing, where T did not read.

    A missing teacher log-prob must not stand as log-prob 0: it would reinforce the student's unlikeliest tokens.
    """
    gain = torch.zeros_like(student.log_probs.detach())
    if teacher is not None and len(teacher):
        gain[teacher.index] = (clamp_log_probs(teacher.log_probs) - base[teacher.index]).to(gain.dtype)
    return gain[rows]


@dataclass(frozen=True)
class TeacherShaped(PolicyGradient):
    """A policy gradient that reads a teacher. Metrics beside its own: teacher/log_ratio, teacher/clamped."""

    teacher: str = "teacher"
    """Name of the model that teaches."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.teacher})

    @abstractmethod
    def compute_advantages(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]: ...

    def find_teacher(self, others: dict[str, TokenLogProbs], rows: Int[Tensor, "n"]) -> TokenLogProbs | None:
        """The teacher on the tokens at `rows`; raises ValueError where it did not read them all."""
        teacher = others.get(self.teacher)
        if teacher is None:
            return None
        place = torch.full((int(rows.max()) + 1,), -1, device=rows.device)
        known = teacher.index <= rows.max()
        place[teacher.index[known]] = known.nonzero()[:, 0]
        if (place[rows] < 0).any():
            raise ValueError(
                f"{type(self).__name__}.token_weight: the teacher did not read every token of this term. "
                "Restrict the term to the mask `distilled`, or use a weight that needs no teacher."
            )
        return teacher.select(place[rows])

    def measure_tokens(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> dict[str, Tensor]:
        if not len(rows):
            return dict.fromkeys(("teacher/log_ratio", "teacher/clamped"), student.nothing.detach().expand(0))
        own = student.log_probs.detach()
        teacher = others.get(self.teacher)
        low = torch.zeros_like(own)
        if teacher is not None:
            low[teacher.index] = (teacher.log_probs < LOG_FLOOR).to(low.dtype)
        return {"teacher/log_ratio": compute_log_ratio(student, teacher, own, rows), "teacher/clamped": low[rows]}


@dataclass(frozen=True)
class TeacherAdvantage(TeacherShaped):
    """A = reward_weight * advantage + teacher_weight * clip(log T - log old) (OpenClaw-RL, arXiv 2603.10165).

    With reward_weight 0 its expected on-policy gradient is that of the reverse KL; with both it is one surrogate under
    one clip, which two terms of an objective are not. Tokens that no teacher read keep the reward's part.
    """

    mask: str = "distilled"
    """Which mask of the rollouts selects this term's tokens; `sampled` where the reward counts too."""
    reward_weight: float = 0.0
    """Weight of the credit's advantage."""
    teacher_weight: float = 1.0
    """Weight of the teacher's advantage."""
    bound: float | None = None
    """The teacher's advantage is held within +-bound [nats]; null: unbounded."""

    def compute_advantages(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        base = student.log_probs.detach() if rollouts.old_log_probs is None else rollouts.old_log_probs
        gain = compute_log_ratio(student, others.get(self.teacher), base, rows)
        gain = gain if self.bound is None else gain.clamp(-self.bound, self.bound)
        # A row without a score may carry any advantage; it must not reach a sum that gives it no weight.
        reward = self.reward_weight * rollouts.advantages[rows] if self.reward_weight else 0.0
        return reward + self.teacher_weight * gain


@dataclass(frozen=True)
class TeacherScaledAdvantage(TeacherShaped):
    """The reward fixes the sign, the teacher's ratio only the size: A * clip((T/S)^sign(A), 1 - bound, 1 + bound).

    RLSD (arXiv 2604.03128) in our reading: A > 0 grows where the hinted teacher finds the token likelier than the
    student does, A < 0 where it finds it less likely; S is the current policy, held constant. Where no teacher read, A
    stays.
    """

    bound: float = 0.2
    """Greatest change of an advantage's size, as a share."""

    def compute_advantages(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        advantages = rollouts.advantages[rows]
        gain = compute_log_ratio(student, others.get(self.teacher), student.log_probs.detach(), rows)
        return advantages * (advantages.sign() * gain).exp().clamp(1 - self.bound, 1 + self.bound).to(advantages.dtype)


@dataclass(frozen=True)
class TopKTeacherAdvantage(Term):
    """On-policy distillation over the k likeliest tokens of the sampling policy, not only the sampled one: each
    outcome v has advantage A_v = w_v clip(log T(v) - log old(v)), w = softmax of log old over the k, and enters the
    clipped surrogate with its ratio under the whole vocabulary; summed over v (OpenClaw-RL v2, arXiv 2603.10165 v2).

    Without `rollouts.top_k_ids` the student is the sampling policy itself: ratios are 1 and only their gradient acts.
    """

    mask: str = "distilled"
    """Which mask of the rollouts selects this term's tokens."""
    k: int = 4
    """Outcomes per token, where the rollouts do not list them."""
    bound: float = 1.0
    """A teacher's advantage is held within +-bound [nats]."""
    clip_low: float = 0.2
    """A ratio is clipped at 1 - clip_low."""
    clip_high: float = 0.28
    """A ratio is clipped at 1 + clip_high."""
    teacher: str = "teacher"
    """Name of the model that teaches."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.teacher})

    @property
    def reads(self) -> frozenset[str]:
        return self.gate.reads | {"top_k_ids"}

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Metrics: teacher/log_ratio of the sampled token, teacher/top_k_mass (the old probability of the k together),
        clip_fraction of outcomes."""
        pair = align_models(student, others, rollouts, name, self.teacher)
        if pair is None:
            zero = student.nothing
            return Loss(
                zero, dict.fromkeys(("teacher/log_ratio", "teacher/top_k_mass", "clip_fraction"), zero.detach())
            )
        mine, theirs = pair
        if rollouts.top_k_ids is None or rollouts.top_k_log_probs is None:
            ids, now = mine.topk(self.k)
            old = now.detach()
        else:
            ids = rollouts.top_k_ids[mine.index]
            old = rollouts.top_k_log_probs[mine.index]
            now = mine.at(ids)
        advantages = old.softmax(-1) * (clamp_log_probs(theirs.at(ids)).detach() - old).clamp(-self.bound, self.bound)
        ratio = (now - old).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
        losses = ppo_clip(ratio, advantages, now, Clip(self.clip_low, self.clip_high)).sum(-1)
        out = ((ratio > 1 + self.clip_high) & (advantages > 0)) | ((ratio < 1 - self.clip_low) & (advantages < 0))
        means = {
            "teacher/log_ratio": theirs.log_probs - mine.log_probs.detach(),
            "teacher/top_k_mass": old.exp().sum(-1),
            "clip_fraction": out.to(ratio.dtype).mean(-1),
        }
        metrics = {key: average_weighted(value.detach(), rollouts, name, mine.index) for key, value in means.items()}
        signal = place_signal(means["teacher/log_ratio"], rollouts, name, mine.index)
        return Loss(average_weighted(losses, rollouts, name, mine.index), metrics, signal)
