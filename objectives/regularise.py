"""Regularisers: what keeps the policy near a reference."""

from collections.abc import Callable
from dataclasses import dataclass

from objectives.divergence import k2
from objectives.scored import Scored
from objectives.terms import Term, aligned, weighted
from objectives.types import Loss, Rollouts


@dataclass(frozen=True)
class ReferenceKL(Term):
    """KL(pi || pi_ref) from the sampled tokens; give it a coefficient."""

    estimator: Callable = k2
    """k2 (right gradient on-policy) or k3 (unbiased value; gradient of the opposite KL)."""
    reference: str = "reference"
    """Name of the model that the policy stays near."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.reference})

    def __call__(self, student: Scored, others: dict[str, Scored], rollouts: Rollouts, name: str) -> Loss:
        """Metric: kl_reference, the estimator's mean."""
        pair = aligned(student, others, rollouts, name, self.reference)
        if pair is None:
            return Loss(student.nothing, {"kl_reference": student.nothing.detach()})
        mine, theirs = pair
        value = weighted(self.estimator(mine.log_probs - theirs.log_probs), rollouts, name, mine.index)
        return Loss(value, {"kl_reference": value.detach()})
