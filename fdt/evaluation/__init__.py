"""Held-out measures: fresh answers, graded; the likelihood of references; pass@k."""

from fdt.evaluation.base import Answers, Evaluation, Likelihood
from fdt.evaluation.pass_at_k import PassAtK

__all__ = ["Answers", "Evaluation", "Likelihood", "PassAtK"]
