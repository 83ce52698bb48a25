"""A bonus on the entropy of the next-token distribution."""

from dataclasses import dataclass

from objectives.losses.term import Term, average_weighted, find_weighted
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


@dataclass(frozen=True)
class EntropyBonus(Term):
    """Minus the entropy of the next-token distribution, so that descending explores; folded over chunks."""

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        wanted = find_weighted(student, rollouts, name)
        if not len(wanted):
            return Loss(student.nothing)
        values = student.select(wanted).fold(lambda log_probs: (log_probs.exp() * log_probs).sum(-1))
        return Loss(average_weighted(values, rollouts, name, wanted))
