"""What judges an episode: `Critic`, and the critics that need words alone. Judges behind an API and local models are
critics too; the latter are in `fdt.reward_models`."""

from feedback.graders.agreement import Agreement
from feedback.graders.arithmetic import Arithmetic
from feedback.graders.base import Critic
from feedback.graders.chain import Chain
from feedback.graders.confidence import StatedConfidence
from feedback.graders.controls import Corrected, Shuffled, Stated
from feedback.graders.extract import Boxed, Captured, Extract, Tagged, Whole
from feedback.graders.format import Format
from feedback.graders.gym import GymScore
from feedback.graders.judges.base import Judge, majority, mean, median
from feedback.graders.judges.next_state import NextState
from feedback.graders.judges.pairwise import EndMark, Pairwise, Verdict, Written
from feedback.graders.judges.pointwise import Pointwise, Principled
from feedback.graders.judges.revise import Reviser
from feedback.graders.judges.selftest import require, self_test
from feedback.graders.match import ExactMatch, RegexMatch
from feedback.graders.mathematics import MathMatch
from feedback.graders.number import NumberMatch
from feedback.graders.sets import AnswerSet
from feedback.graders.similarity import StepSimilarity
from feedback.graders.tags import MetaTags

__all__ = [
    "Agreement",
    "AnswerSet",
    "Arithmetic",
    "Boxed",
    "Captured",
    "Chain",
    "Corrected",
    "Critic",
    "EndMark",
    "ExactMatch",
    "Extract",
    "Format",
    "GymScore",
    "Judge",
    "MathMatch",
    "MetaTags",
    "NextState",
    "NumberMatch",
    "Pairwise",
    "Pointwise",
    "Principled",
    "RegexMatch",
    "Reviser",
    "Shuffled",
    "Stated",
    "StatedConfidence",
    "StepSimilarity",
    "Tagged",
    "Verdict",
    "Whole",
    "Written",
    "majority",
    "mean",
    "median",
    "require",
    "self_test",
]
