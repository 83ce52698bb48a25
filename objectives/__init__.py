"""Objectives: losses from scores, critiques and corrected answers. Tensors only.

An objective is called as `objective(student, others, rollouts)` and gives a `Loss`. `student` and `others` are
`TokenLogProbs`: target tokens under one model, with a lazy head; `rollouts` are flat tokens that know their turn, row
and task. A method from a paper is a point in a product of small axes: reward x credit x ratio x surrogate x reduction x
divergence x gate x token weight. To add your own, subclass `Reward`, `Credit`, `Gate`, `TokenWeight`, `Reduction`,
`Schedule` or `Term`, or write a function for a ratio, surrogate, divergence or estimator, and name it in YAML by its
path.

A = advantage, r = reward, rho = pi / pi_old, S = student, T = hinted teacher, R = reference; overlays lie in
`configs/algorithm`.

| Method | arXiv | Formula | Overlay |
|---|---|---|---|
| GRPO | 2402.03300 | A = (r - mean) / std; row mean of -min(rho A, clip(rho) A); + beta k3 | grpo |
| Dr.GRPO | 2503.20783 | A = r - mean; token sum / (rows x constant) | dr_grpo |
| DAPO | 2503.14476 | clip 0.2 / 0.28, token mean, soft overlong penalty; flat groups sampled again | dapo |
| DAPO for agents | 2508.03501 | r + (threshold - turns) / (limit - threshold) above it; A = 0 dropped | dapo_swe |
| RLOO | 2402.14740 | A = G/(G-1) (r - mean); row ratio, no clip | rloo |
| REINFORCE++ | 2501.03262 | A whitened over all rows; + beta k2 | reinforce_pp |
| GSPO | 2507.18071 | rho = exp(row mean of log rho), clip 3e-4 / 4e-4 | gspo |
| CISPO | 2506.13585 | -sg(min(rho, cap)) A log pi | cispo |
| MS-GRPO | 2508.10839 | r = sum of turn rewards; rows drawn by abs(A), weight sign(A) mean abs(A) | ms_grpo |
| HICRA | 2509.03646 | A + alpha abs(A) on planning tokens | hicra |
| RLVMR | 2507.22844 | alpha A(row, by task) + (1 - alpha) A(turn, by task and tag) | rlvmr |
| SRL | 2510.25992 | r = similarity of the turn, -1 where ill-formed; `informative` groups | srl |
| RLCR | 2507.16806 | r = c - (q - c)^2, gated on format; `Spherical`, `ClippedLog` | rlcr |
| ProRL | 2505.24864 | group mean, then whitened; + beta k2 to a reference that is reset | prorl |
| VPO | 2605.22817 | r = mean over w of max over answers of w . r | vpo |
| MaxRL | 2602.02710 | A = (r - mean) / mean | `MeanScaled` |
| GDPO | 2601.05242 | each score standardised, summed, whitened | `PerReward` |
| SDPO | 2601.20802 | JS(S, T) on the student's top-k and a tail, times min(rho, 2) | sdpo |
| On-policy distillation | 2603.10165 | A = clip(log T - log old) under the clipped surrogate | opd |
| OpenClaw-RL combined | 2603.10165 | A = r + log T - log old under one surrogate | openclaw_combine |
| OpenClaw-RL v2 | 2603.10165 | GRPO + sum over top 4 of clipped rho old clip(log T - log old) | openclaw_v2 |
| SRPO | 2604.02288 | failures with a hint distilled with weight exp(-H(T)), others GRPO | srpo |
| SDPG | 2606.04036 | GRPO + beta(step) KL(S, T) where A > 0 + k2 to the start | sdpg |
| RLSD | 2604.03128 | A clip((T / S)^sign(A), 1 - eps, 1 + eps) | rlsd |
| Rewrites in the group | 2506.03106 | -A pi / (pi + 0.1), no ratio | `OffPolicy` |
| Imitation | - | -log pi of a corrected answer | imitation |
| Skewed KL | 2402.03898 | KL(T, alpha T + (1 - alpha) S) and its reverse | `SkewedForwardKL` |
| Generalised JSD | 2306.13649 | beta KL(T, M) + (1 - beta) KL(S, M) | `GeneralisedJS` |
| Clip-Cov, KL-Cov | 2505.22617 | tokens of high (A - mean)(log p - mean) masked, or + abs(log rho) | `ClipCov` |
| TIS, IcePop | 2510.18855 | w = pi_old / pi_engine, at most a cap; 0 outside bounds | `TruncatedIS`, `IcePop` |
| OPSM | 2512.02556 | rows with A < 0 and mean(log old - log pi) above a limit dropped | `OffPolicyMask` |
| DPPO | 2602.04879 | tokens whose probability moved too far dropped; + `OldPolicyPenalty` | `ProbabilityShift` |
"""

from types import ModuleType as _module

from objectives.credit.episode import (
    Credit,
    DatasetMean,
    GroupElseBatch,
    GroupRelative,
    GroupWhitened,
    LeaveOneOut,
    MeanScaled,
    PerReward,
    RawScore,
)
from objectives.credit.sampling import AdvantageSampled, select_informative
from objectives.credit.turns import DiscountedTurns, EpisodeReturn, LastTurn, MetaReasoning
from objectives.defaults import default_terms
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
from objectives.gates.covariance import ClipCov, TopCovariance
from objectives.gates.mismatch import IcePop, SequenceMask, TruncatedIS
from objectives.gates.rows import (
    All,
    Every,
    Gate,
    InMask,
    NonzeroAdvantage,
    Not,
    PositiveAdvantage,
    ScoreGate,
    SkipFirst,
    SkipLast,
    get_score,
)
from objectives.losses.distillation import Distill, DistillBestHint, Imitate, KLAnchor
from objectives.losses.entropy import EntropyBonus
from objectives.losses.off_policy import OffPolicy
from objectives.losses.policy_gradient import (
    PlanningGradient,
    PolicyGradient,
    cispo,
    geometric_ratio,
    ppo_clip,
    reinforce,
    sequence_ratio,
    token_ratio,
    topr,
)
from objectives.losses.reference_kl import OldPolicyPenalty, ReferenceKL, absolute_difference
from objectives.losses.teacher_advantages import TeacherAdvantage, TeacherScaledAdvantage, TopKTeacherAdvantage
from objectives.losses.term import Term
from objectives.losses.token_weights import (
    OffPolicyMask,
    PrefixTrust,
    ProbabilityShift,
    Product,
    ScoreAgreement,
    SupportOverlap,
    TeacherConfidence,
    TokenWeight,
)
from objectives.objective import Objective
from objectives.reductions import ConstantLength, Reduction, SequenceMean, TokenMean, TurnMean
from objectives.rewards.calibration import Brier, ClippedLog, Spherical, compute_empirical_rate
from objectives.rewards.scores import FormatGate, Overlong, Reward, Score, TurnLimit, Weighted
from objectives.rewards.sets import SetScore, measure_collinearity, score_set
from objectives.schedules import Plateau, Ramp, Schedule
from objectives.types import Loss, Rollouts
from objectives.vocabulary.token_log_probs import TokenLogProbs

__all__ = [name for name, value in globals().items() if not name.startswith("_") and not isinstance(value, _module)]
