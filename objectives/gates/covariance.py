"""Gates on how a token's advantage moves with its log-prob: what drives entropy down (arXiv 2505.22617)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from objectives.gates.rows import Gate
from objectives.types import Rollouts


def get_old_log_probs(rollouts: Rollouts, gate: object) -> Float[Tensor, "N"]:
    """`rollouts.old_log_probs`; raises ValueError where it is missing."""
    if rollouts.old_log_probs is None:
        raise ValueError(
            f"rollouts.old_log_probs: got None, expected [N] log-probs; {type(gate).__name__} reads them before the "
            "forward pass. Keep the rollout's log-probs (several updates per rollout do)."
        )
    return rollouts.old_log_probs


def compute_covariance(rollouts: Rollouts, gate: object) -> Float[Tensor, "N"]:
    """(A - mean A)(log p - mean log p) on the sampled tokens of this rank's step, -inf elsewhere (arXiv 2505.22617).

    The log-probs are those at generation, so that the choice does not depend on how the step is cut.
    """
    sampled = rollouts.masks["sampled"]
    out = torch.full_like(rollouts.advantages, -torch.inf)
    advantages = rollouts.advantages[sampled]
    log_probs = get_old_log_probs(rollouts, gate)[sampled]
    out[sampled] = ((advantages - advantages.mean()) * (log_probs - log_probs.mean())).to(out.dtype)
    return out


class Covariance(Gate):
    """A gate on the covariance."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"old_log_probs"})


@dataclass(frozen=True)
class ClipCov(Covariance):
    """Leaves out a random few of the tokens whose covariance would collapse entropy most (arXiv 2505.22617)."""

    fraction: float = 2e-4
    """Share of the sampled tokens that is left out, at least one where any is eligible."""
    low: float = 1.0
    """A token is eligible above this covariance."""
    high: float = 5.0
    """A token is eligible below this covariance."""
    seed: int = 0
    """Seed of the choice; it also differs by optimiser step."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        values = compute_covariance(rollouts, self)
        eligible = ((values > self.low) & (values < self.high)).nonzero()[:, 0]
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + rollouts.update)
        few = max(1, int(self.fraction * int(rollouts.masks["sampled"].sum())))
        chosen = eligible[torch.randperm(len(eligible), generator=random)[:few].to(eligible.device)]
        factor = torch.ones_like(rollouts.advantages)
        factor[chosen] = 0.0
        return factor


@dataclass(frozen=True)
class TopCovariance(Covariance):
    """Only the tokens of greatest covariance; with `OldPolicyPenalty` this is KL-Cov (arXiv 2505.22617)."""

    fraction: float = 2e-4
    """Share of the sampled tokens that is kept, at least one."""

    def __call__(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        values = compute_covariance(rollouts, self)
        size = int(rollouts.masks["sampled"].sum())
        few = min(size, max(1, int(self.fraction * size)))
        factor = torch.zeros_like(rollouts.advantages)
        factor[values.topk(few).indices] = 1.0
        return factor
