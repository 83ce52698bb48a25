"""Objectives: what a policy learns from scores and from directions. Tensors only.

An objective is called as `objective(student, others, rollouts)` and gives a `Loss`. `student` and `others` are `Scored`
target tokens with a lazy head; `rollouts` are flat tokens that know their step, row and task.
"""

from objectives.credit import Credit, DatasetMean, GroupRelative, LeaveOneOut
from objectives.distill import Distill, Imitate
from objectives.divergence import coarsen, forward_kl, js, k1, k2, k3, renormalise, reverse_kl
from objectives.gates import All, Failures, Gate, PositiveAdvantage, Successes
from objectives.objective import Mix, Objective
from objectives.policy import (
    PolicyGradient,
    cispo,
    clipped,
    geometric_ratio,
    plain,
    sequence_ratio,
    token_ratio,
)
from objectives.reductions import ConstantLength, Reduction, SequenceMean, TokenMean
from objectives.regularise import ReferenceKL
from objectives.scored import Scored
from objectives.terms import Term
from objectives.types import Loss, Rollouts

__all__ = [name for name in dir() if not name.startswith("_")]
