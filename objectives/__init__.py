"""Objectives: what a policy learns from scores and from directions. Tensors only.

An objective is called as `objective(student, others, rollouts)` and gives a `Loss`. `student` and `others` are `Scored`
target tokens with a lazy head; `rollouts` are flat tokens that know their step, row and task.
"""

from types import ModuleType as _module

from objectives.calibration import Brier, ClippedLog, Spherical, empirical_rate
from objectives.covariance import ClipCov, TopCovariance
from objectives.credit import (
    Credit,
    DatasetMean,
    GroupRelative,
    GroupWhitened,
    LeaveOneOut,
    MeanScaled,
    PerReward,
    RawScore,
)
from objectives.directed import OnPolicyDistill, TeacherScaled
from objectives.distill import Distill, DistillBestHint, Imitate
from objectives.divergence import (
    GeneralisedJS,
    SkewedForwardKL,
    SkewedReverseKL,
    coarsen,
    forward_kl,
    js,
    k1,
    k2,
    k3,
    renormalise,
    reverse_kl,
)
from objectives.gates import (
    All,
    Better,
    Every,
    Failures,
    Gate,
    Marked,
    Not,
    PositiveAdvantage,
    RowWeight,
    SkipFirst,
    Successes,
)
from objectives.heed import Certainty, Heed, Overlap
from objectives.mismatch import IcePop, SequenceMask, TruncatedIS
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
from objectives.regularise import EntropyBonus, ReferenceKL, StayNear, absolute
from objectives.rewards import FormatGate, Overlong, Reward, Score, TurnLimit, Weighted
from objectives.sampling import AdvantageSampled, informative
from objectives.schedules import Ramp, ReferenceReset, Schedule
from objectives.scored import Scored
from objectives.sets import SetScore, collinearity, set_score
from objectives.steps import DiscountedTurns, EpisodeReturn, MetaReasoning, PlanAmplified
from objectives.terms import Term
from objectives.trust import OffPolicySequences, ProbabilityShift, Trust
from objectives.types import Loss, Rollouts

__all__ = [name for name, value in globals().items() if not name.startswith("_") and not isinstance(value, _module)]
