"""What a learner minimises that is built without terms; the command line takes `algorithm/dspo` in their place."""

from objectives.losses.distillation import Distill, Imitate
from objectives.losses.policy_gradient import PolicyGradient
from objectives.losses.term import Term


def default_terms() -> dict[str, Term]:
    """What is minimised where a learner is given no terms: scores, critiques and revisions, each by its own term."""
    return {"policy": PolicyGradient(truncate=2.0), "distill": Distill(), "imitate": Imitate()}
