"""What judges an episode: `Grader`, and the graders that need words alone. Judges behind an API and local models are
graders too; the latter are in `fdt.reward_models`."""

from feedback.graders.agreement import Agreement
from feedback.graders.arithmetic import Arithmetic
from feedback.graders.base import Grader
from feedback.graders.chain import GraderChain
from feedback.graders.confidence import StatedConfidence
from feedback.graders.controls import ReferenceAsCritique, ReferenceAsRevision, ShuffledCritique
from feedback.graders.extract import BoxedExtractor, Extractor, RegexExtractor, TagExtractor, WholeExtractor
from feedback.graders.format import FormatGrader
from feedback.graders.gym import GymScore
from feedback.graders.judges.base import Judge, majority, mean, median
from feedback.graders.judges.next_state import NextStateJudge
from feedback.graders.judges.pairwise import JsonVerdict, PairwiseJudge, SuffixVerdict, Verdict
from feedback.graders.judges.pointwise import PointwiseJudge, PrincipleJudge
from feedback.graders.judges.revise import Reviser
from feedback.graders.judges.selftest import require_self_test, run_self_test
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
    "Grader",
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
