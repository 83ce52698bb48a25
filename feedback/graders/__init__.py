"""What judges an episode: `Grader`, and the graders that need words alone. Judges behind an API and local models are
graders too; the latter are in `fdt.reward_models`."""

from feedback.graders.agreement import Agreement
from feedback.graders.arithmetic import Arithmetic
from feedback.graders.base import Grader, RuleGrader, check_graded, get_added_feedback, run_grader
from feedback.graders.chain import GraderChain
from feedback.graders.confidence import StatedConfidence
from feedback.graders.controls import ReferenceAsCritique, ReferenceAsRevision, ShuffledCritique
from feedback.graders.drafts import LiteralCheck
from feedback.graders.extract import Extract, RegexExtractor, TagExtractor, extract_boxed, extract_response
from feedback.graders.format import FormatGrader
from feedback.graders.function import FunctionGrader, as_grader
from feedback.graders.gym import GymScore
from feedback.graders.judges.base import Judge, majority, mean, median
from feedback.graders.judges.next_state import NextStateJudge
from feedback.graders.judges.pairwise import PairwiseJudge, SuffixVerdict, Verdict, read_json_verdict
from feedback.graders.judges.pointwise import PointwiseJudge, PrincipleJudge
from feedback.graders.judges.revise import Reviser
from feedback.graders.judges.selftest import require_self_test, run_self_test
from feedback.graders.match import ExactMatch, RegexMatch
from feedback.graders.mathematics import MathMatch
from feedback.graders.number import NumberMatch
from feedback.graders.sets import AnswerSet
from feedback.graders.similarity import StepSimilarity
from feedback.graders.tags import MetaTags
from feedback.graders.verifier import Verifier

__all__ = [
    "Agreement",
    "AnswerSet",
    "Arithmetic",
    "ExactMatch",
    "Extract",
    "FormatGrader",
    "FunctionGrader",
    "Grader",
    "GraderChain",
    "GymScore",
    "Judge",
    "LiteralCheck",
    "MathMatch",
    "MetaTags",
    "NextStateJudge",
    "NumberMatch",
    "PairwiseJudge",
    "PointwiseJudge",
    "PrincipleJudge",
    "ReferenceAsCritique",
    "ReferenceAsRevision",
    "RegexExtractor",
    "RegexMatch",
    "Reviser",
    "RuleGrader",
    "ShuffledCritique",
    "StatedConfidence",
    "StepSimilarity",
    "SuffixVerdict",
    "TagExtractor",
    "Verdict",
    "Verifier",
    "as_grader",
    "check_graded",
    "extract_boxed",
    "extract_response",
    "get_added_feedback",
    "majority",
    "mean",
    "median",
    "read_json_verdict",
    "require_self_test",
    "run_grader",
    "run_self_test",
]
