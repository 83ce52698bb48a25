"""`Term`: one part of a loss, with its own tokens, weights and denominator."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from objectives.gates.rows import All, Gate
from objectives.reductions import Reduction, TokenMean
from objectives.returns import check_numbers, check_shape
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs


@dataclass(frozen=True)
class Term(ABC):
    """A loss per token, summed with weights that were fixed for the whole optimiser step.

    A row's weights and the term's denominator come from `weigh` and `denominator` on the whole step, so cutting the
    step into micro-batches or over ranks changes nothing.
    """

    mask: str = "sampled"
    """Which mask of the rollouts selects this term's tokens."""
    gate: Gate = All()
    """Which rows and tokens among them it trains on, and with what weight."""
    reduction: Reduction = TokenMean()
    """How its tokens add up to one number."""
    keep_masked: bool = False
    """Tokens that the gate leaves out stay in the denominator."""

    @property
    def needs(self) -> frozenset[str]:
        """Names of the models, beside the policy, whose log-probs this term reads: `teacher`, `reference`, ..."""
        return frozenset()

    @property
    def masks(self) -> frozenset[str]:
        """Masks of the rollouts that this term reads."""
        return frozenset({self.mask})

    @property
    def reads(self) -> frozenset[str]:
        """Fields of the rollouts that this term reads and not every batch has, such as `old_log_probs`."""
        return self.gate.reads

    @property
    def reads_distribution(self) -> bool:
        """Whether this term reads more of a model's next-token distribution than the log-prob of the target token:
        likeliest tokens, entropy, a divergence. A fused kernel serves terms that do not; True where a term does not
        say."""
        return True

    def weigh(self, rollouts: Rollouts) -> Float[Tensor, "N"]:
        """Weights of the whole optimiser step: mask, gate and reduction; zero outside the mask."""
        mask = self.get_mask(rollouts)
        factor = check_shape(self.gate(rollouts), rollouts.advantages.shape, self.gate, "factors")
        gated = check_numbers(factor.where(mask, 0.0), factor.shape, self.gate, "factors", least=0.0)
        return gated * self.reduction(mask if self.keep_masked else gated != 0, rollouts)

    def compute_denominator(self, rollouts: Rollouts, weights: Float[Tensor, "N"]) -> Float[Tensor, ""]:
        """This rank's share of the denominator: it counts tokens, so that a gate's factor scales one token's part of
        the loss and leaves the others as they are."""
        counted = self.get_mask(rollouts) if self.keep_masked else weights != 0
        return self.reduction.compute_denominator(self.reduction(counted, rollouts).where(counted, 0.0), rollouts)

    @abstractmethod
    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        """Sum of weight times loss over a micro-batch, over the whole step's denominator."""

    def get_mask(self, rollouts: Rollouts) -> Tensor:
        """This term's mask [N]; raises ValueError that lists the masks present."""
        if self.mask not in rollouts.masks:
            raise ValueError(
                f"{type(self).__name__}.mask: got {self.mask!r}, expected one of {sorted(rollouts.masks)}. "
                "Name a mask that the batch carries."
            )
        return rollouts.masks[self.mask]


def average_weighted(
    values: Tensor, rollouts: Rollouts, name: str, index: Int[Tensor, "n"] | None = None
) -> Float[Tensor, ""]:
    """Sum of weight times value [n] over the term's denominator; `index` names the tokens that the values belong to.

    The values of tokens of weight zero are replaced, not multiplied: 0 times NaN would be NaN. Nothing left is an exact
    zero. No size depends on the weights, so that a card need not be waited for.
    """
    weights = rollouts.weights[name] if index is None else rollouts.weights[name][index]
    if values.shape != weights.shape:
        raise ValueError(
            f"term {name!r}: got values {list(values.shape)}, expected one for each token {list(weights.shape)}. "
            "A ratio, surrogate, divergence or estimator of your own keeps one number for each token."
        )
    keep = weights != 0
    total = rollouts.totals[name]
    summed = (weights.to(values.dtype) * values.where(keep, 0.0)).sum()
    return summed / total if total else summed


def place_signal(
    values: Float[Tensor, "n"], rollouts: Rollouts, name: str, index: Int[Tensor, "n"]
) -> Float[Tensor, "N"]:
    """A signal [n] at its positions among the micro-batch's N tokens, 0 where term `name` has no weight."""
    out = torch.zeros(len(rollouts.advantages), dtype=torch.float32, device=values.device)
    out[index] = values.detach().float()
    return out.where(rollouts.weights[name] != 0, 0.0)


def find_weighted(student: TokenLogProbs, rollouts: Rollouts, name: str) -> Int[Tensor, "n"]:
    """Positions of the tokens on which term `name` has weight; checks that the student covers the whole micro-batch."""
    if len(student) != len(rollouts.advantages):
        raise ValueError(
            f"student: got log-probs of {len(student)} tokens, expected the micro-batch's {len(rollouts.advantages)}. "
            "Compute the log-probs of every target token with the student."
        )
    return rollouts.weights[name].nonzero()[:, 0]


def align_models(
    student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str, other: str
) -> tuple[TokenLogProbs, TokenLogProbs] | None:
    """Student and `others[other]` on the tokens where term `name` has weight; None where there are none.

    Raises ValueError when the term has weight on a token of which the other model has no log-prob.
    """
    wanted = find_weighted(student, rollouts, name)
    if not len(wanted):
        return None
    position = torch.full((len(student),), -1, dtype=torch.long, device=wanted.device)
    if other in others:
        position[others[other].index] = torch.arange(len(others[other]), device=wanted.device)
    position = position[wanted]
    missing = int((position < 0).sum())
    if missing:
        raise ValueError(
            f"others[{other!r}]: got no log-prob for {missing} of {len(wanted)} tokens on which term {name!r} has "
            f"weight, expected all (present: {sorted(others)}). Add that model, or clear these tokens' mask."
        )
    return student.select(wanted), others[other].select(position)
