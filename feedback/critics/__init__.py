"""What judges an episode: `Critic`, and the critics that need words alone. Judges behind an API and local models are
critics too; the latter are in `fdt.critics`."""

from feedback.critics.agreement import Agreement
from feedback.critics.arithmetic import Arithmetic
from feedback.critics.base import Critic
from feedback.critics.chain import Chain
from feedback.critics.confidence import StatedConfidence
from feedback.critics.controls import Corrected, Shuffled, Stated
from feedback.critics.extract import Boxed, Captured, Extract, Tagged, Whole
from feedback.critics.format import Format
from feedback.critics.gym import GymScore
from feedback.critics.judge import Judge, majority, mean, median
from feedback.critics.judge_next import NextState
from feedback.critics.judge_pairwise import EndMark, Pairwise, Verdict, Written
from feedback.critics.judge_pointwise import Pointwise, Principled
from feedback.critics.judge_revise import Reviser
from feedback.critics.judge_selftest import require, self_test
from feedback.critics.match import ExactMatch, RegexMatch
from feedback.critics.mathematics import MathMatch
from feedback.critics.number import NumberMatch
from feedback.critics.sets import AnswerSet
from feedback.critics.similarity import StepSimilarity
from feedback.critics.tags import MetaTags

__all__ = ["Agreement", "AnswerSet", "Arithmetic", "Boxed", "Captured", "Chain", "Corrected", "Critic", "EndMark",
           "ExactMatch", "Extract", "Format", "GymScore", "Judge", "MathMatch", "MetaTags", "NextState", "NumberMatch", "Pairwise",
           "Pointwise", "Principled", "RegexMatch", "Reviser", "Shuffled", "Stated", "StatedConfidence",
           "StepSimilarity", "Tagged", "Verdict", "Whole", "Written", "majority", "mean", "median", "require",
           "self_test"]  # fmt: skip
