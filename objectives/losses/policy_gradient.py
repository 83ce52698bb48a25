"""Policy-gradient losses: ratio x surrogate x reduction.

Loss per token, to descend: -A times a function of the ratio rho = pi / pi_old. Worked forms: GRPO (arXiv 2402.03300),
DAPO (2503.14476), Dr.GRPO (2503.20783), GSPO (2507.18071), CISPO (2506.13585).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives import segments
from objectives.divergence import LOG_RATIO_BOUND
from objectives.losses.term import Term, average_weighted, find_weighted, place_signal
from objectives.losses.token_weights import TokenWeight, apply_weight
from objectives.returns import check_shape
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


@dataclass(frozen=True)
class Clip:
    """Bounds of the ratio rho = pi / pi_old that a surrogate may use."""

    low: float
    """rho is held above 1 - low."""
    high: float
    """rho is held below 1 + high."""
    dual: float | None = None
    """The loss of a token with A < 0 stays below this many |A|; None: unbounded."""


def token_ratio(log_ratio: Float[Tensor, "n"], row: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """log rho of each token by itself."""
    return log_ratio


def sequence_ratio(log_ratio: Float[Tensor, "n"], row: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """log of the product of rho over the row, on each of its tokens."""
    return segments.total(log_ratio, row, int(row.max()) + 1)[row]


def geometric_ratio(log_ratio: Float[Tensor, "n"], row: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """log of the geometric mean of rho over the row, on each of its tokens (GSPO, arXiv 2507.18071)."""
    return segments.mean(log_ratio, row, int(row.max()) + 1)[row]


def ppo_clip(ratio: Tensor, advantages: Tensor, log_probs: Tensor, clip: Clip) -> Tensor:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A) (PPO; separate bounds: DAPO, arXiv 2503.14476).

    With a dual clip the loss of a token with A < 0 is at most dual |A| (arXiv 1912.09729).
    """
    held = ratio.clamp(1 - clip.low, 1 + clip.high)
    ratio = ratio if clip.dual is None else ratio.clamp(max=clip.dual)
    return -torch.minimum(ratio * advantages, held * advantages)


def reinforce(ratio: Tensor, advantages: Tensor, log_probs: Tensor, clip: Clip) -> Tensor:
    """-rho A, without bounds; on-policy its gradient is REINFORCE's."""
    return -ratio * advantages


def cispo(ratio: Tensor, advantages: Tensor, log_probs: Tensor, clip: Clip) -> Tensor:
    """-sg(min(rho, 1 + high)) A log pi: no token loses its gradient (CISPO, arXiv 2506.13585)."""
    return -ratio.detach().clamp(max=1 + clip.high) * advantages * log_probs


def topr(ratio: Tensor, advantages: Tensor, log_probs: Tensor, clip: Clip) -> Tensor:
    """-A log pi where A > 0, -sg(min(rho, 1)) A log pi where A < 0 (TOPR, arXiv 2503.14286): a right answer is
    reinforced however unlikely it has become, a wrong one is left alone once it is unlikely. Use `sequence_ratio`."""
    taper = torch.where(advantages > 0, 1.0, ratio.detach().clamp(max=1.0))
    return -taper * advantages * log_probs


@dataclass(frozen=True)
class PolicyGradient(Term):
    """Policy gradient on the sampled tokens, with the advantages that the credit assigned."""

    clip_low: float = 0.2
    """The ratio is clipped at 1 - clip_low."""
    clip_high: float = 0.28
    """The ratio is clipped at 1 + clip_high."""
    truncate: float | None = None
    """Greatest ratio a token weighs with, its gradient kept: bounds the variance on replayed rows."""
    ratio: Callable = token_ratio
    """token_ratio, sequence_ratio or geometric_ratio."""
    surrogate: Callable = ppo_clip
    """ppo_clip, reinforce, cispo or topr."""
    dual_clip: float | None = None
    """Bound on the loss of a token with A < 0, in |A|, for `ppo_clip`; above 1 + clip_high (verl: 3)."""
    token_weight: TokenWeight | None = None
    """A factor on each token, known once the policy has read it, such as OffPolicyMask; null: 1."""

    @property
    def reads_distribution(self) -> bool:
        return self.token_weight is not None and self.token_weight.reads_distribution

    def compute_advantages(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """The advantages of the tokens at `rows`, their places among the N, without gradient."""
        return rollouts.advantages[rows]

    def measure_tokens(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> dict[str, Tensor]:
        """Further values [n] whose weighted means are reported."""
        return {}

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Metrics: clip_fraction, approx_kl = E[rho - 1 - log rho], and the range of rho with 1 included."""
        if not len(find_weighted(student, rollouts, name)):
            rows = rollouts.episode[:0]
            none = student.nothing.detach().expand(0)
            return Loss(
                student.nothing,
                self._measure_ratio(none, none, rollouts, name, rows)
                | self._average_measures(student, others, rollouts, name, rows),
            )
        # A row's mean ratio runs over all its sampled tokens, also those that a gate leaves out.
        rows = self.get_mask(rollouts).nonzero()[:, 0]
        row = rollouts.episode[rows]
        log_probs = student.log_probs[rows]
        old = log_probs.detach() if rollouts.old_log_probs is None else rollouts.old_log_probs[rows]
        old = torch.where(old.isnan(), log_probs.detach(), old)  # fresh rows beside recalled ones
        log_ratio = check_shape(self.ratio(log_probs - old, row), row.shape, self.ratio, "log-ratios")
        log_ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
        ratio = log_ratio.exp()
        if self.truncate is not None:
            ratio = ratio * (self.truncate / ratio.detach()).clamp(max=1.0)
        advantages = self.compute_advantages(student, others, rollouts, rows)
        losses = self.surrogate(ratio, advantages, log_probs, Clip(self.clip_low, self.clip_high, self.dual_clip))
        if self.token_weight is not None:
            taken = replace(rollouts.take(rows), advantages=advantages)
            factor = self.token_weight(student.select(rows), self.find_teacher(others, rows), taken)
            losses = apply_weight(losses, check_shape(factor, losses.shape, self.token_weight, "factors"))
        return Loss(
            average_weighted(losses, rollouts, name, rows),
            self._measure_ratio(log_ratio.detach(), advantages, rollouts, name, rows)
            | self._average_measures(student, others, rollouts, name, rows),
            place_signal(advantages, rollouts, name, rows),
            needs_signal=True,
        )

    def find_teacher(self, others: dict[str, TokenLogProbs], rows: Int[Tensor, "n"]) -> TokenLogProbs | None:
        """The teacher on the tokens at `rows`; None where the term has none."""
        return None

    def _average_measures(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str, rows: Tensor
    ) -> dict[str, Tensor]:
        found = self.measure_tokens(student, others, rollouts, rows)
        return {key: average_weighted(value, rollouts, name, rows) for key, value in found.items()}

    def _measure_ratio(
        self, log_ratio: Tensor, advantages: Tensor, rollouts: Rollouts, name: str, rows: Tensor
    ) -> dict[str, Tensor]:
        ratio = log_ratio.exp()
        out = ((ratio > 1 + self.clip_high) & (advantages > 0)) | ((ratio < 1 - self.clip_low) & (advantages < 0))
        weighted = torch.cat([ratio.where(rollouts.weights[name][rows] != 0, 1.0), ratio.new_ones(1)])
        return {
            "clip_fraction": average_weighted(out.to(ratio.dtype), rollouts, name, rows),
            "approx_kl": average_weighted(ratio - 1 - log_ratio, rollouts, name, rows),
            "ratio_min": weighted.min(),
            "ratio_max": weighted.max(),
        }


@dataclass(frozen=True)
class PlanningGradient(PolicyGradient):
    """HICRA (arXiv 2509.03646): the advantage A + alpha |A| on planning tokens, A elsewhere: there positive advantages
    grow and negative ones shrink."""

    alpha: float = 0.2
    """Share of |A| that is added."""
    planning: str = "planning"
    """Mask of the planning tokens: the name of `data.marker`."""

    @property
    def masks(self) -> frozenset[str]:
        return frozenset({self.mask, self.planning})

    def compute_advantages(
        self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, rows: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        if self.planning not in rollouts.masks:
            raise ValueError(
                f"PlanningGradient.planning: got {self.planning!r}, expected one of {sorted(rollouts.masks)}. "
                "Set data.marker to one that finds plans, such as fdt.data.markers.StrategicGrams."
            )
        advantages = rollouts.advantages[rows]
        return torch.where(rollouts.masks[self.planning][rows], advantages + self.alpha * advantages.abs(), advantages)
