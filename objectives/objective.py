"""`Objective`: the sum of named loss terms that a learner minimises."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from objectives.losses.term import Term
from objectives.returns import check_coefficient, check_loss
from objectives.schedules import Schedule
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


@dataclass(frozen=True)
class Objective:
    """Sum of coefficient times term. Each term has its own tokens, gate and denominator.

    Order of a step: `weigh` the whole step, put the result into `rollouts.weights`, add `compute_totals` over ranks
    into `rollouts.totals`, then call on each micro-batch (`rollouts.take`) and add up values and metrics.
    """

    terms: dict[str, Term]
    """Named terms."""
    coefficients: dict[str, float | Schedule] = field(default_factory=dict)
    """Coefficient of a named term, constant or a schedule; 1 where none is given. At 0 a term is not computed."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.coefficients) - set(self.terms))
        if unknown or not self.terms:
            raise ValueError(
                f"coefficients: got {unknown or 'no terms at all'}, expected names among {sorted(self.terms)}. "
                "Name the term that the coefficient belongs to."
            )

    @property
    def active(self) -> dict[str, Term]:
        """The terms that are computed: those whose coefficient is ever other than zero."""
        return {name: term for name, term in self.terms.items() if self.get_coefficient(name)}

    @property
    def needs(self) -> set[str]:
        """Names that `others` must hold: `teacher`, `reference`, ..."""
        return {other for term in self.active.values() for other in term.needs}

    @property
    def reads(self) -> frozenset[str]:
        """Fields of the rollouts that the terms read and not every batch has, such as `old_log_probs`."""
        return frozenset().union(*(term.reads for term in self.terms.values()))

    def get_coefficient(self, name: str, update: int | None = None) -> float:
        """What term `name` is multiplied by after `update` optimiser steps; without a step, the most it ever is."""
        value = self.coefficients.get(name, 1.0)
        if isinstance(value, Schedule):
            return check_coefficient(value.peak if update is None else value(update), value)
        return value

    def weigh(self, rollouts: Rollouts) -> dict[str, Float[Tensor, "N"]]:
        """Per term, the weights of the whole optimiser step."""
        return {name: term.weigh(rollouts) for name, term in self.terms.items()}

    def compute_totals(self, rollouts: Rollouts) -> dict[str, float]:
        """Per term, this rank's share of the denominator; needs `rollouts.weights` of the whole step."""
        return {
            name: float(term.compute_denominator(rollouts, rollouts.weights[name])) for name, term in self.terms.items()
        }

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts) -> Loss:
        """The loss of one micro-batch; needs its `rollouts.weights` and the step's `rollouts.totals`.

        Metrics: `loss/<term>` without coefficient, and each term's own, with `/<term>` where two would clash.
        """
        value = student.nothing
        metrics: dict[str, Tensor] = {}
        parts: dict[str, Loss] = {}
        for name, term in self.terms.items():
            scale = self.get_coefficient(name, rollouts.update)
            if not scale:
                continue
            loss = check_loss(term(student, others, rollouts, name), term)
            parts[name] = loss
            value = value + scale * loss.value
            metrics[f"loss/{name}"] = loss.value.detach()
            for key, metric in loss.metrics.items():
                metrics[f"{key}/{name}" if key in metrics else key] = metric.detach()
        return Loss(value, metrics, parts=parts)
