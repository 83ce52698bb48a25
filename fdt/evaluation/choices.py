"""What is measured where a config leaves that to the file: answers that something scores, else a likelihood."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info

from fdt.data.splits import DataSplits
from fdt.errors import UserError
from fdt.evaluation.base import Answers, Evaluation, Likelihood
from feedback.types import Task


def check_grader(given: Evaluation | None, is_judged: bool, on_policy: bool) -> None:
    """
    Raises:
        UserError: where fresh answers are to be measured, or train, and nothing scores them.
    """
    if (isinstance(given, Answers) or (given is None and on_policy)) and not is_judged:
        raise UserError("no grader", expected="one, since fresh answers need a score", key="data.grader")


def choose_evaluation(given: Evaluation | None, is_judged: bool, data: DataSplits) -> tuple[Evaluation, Sequence[Task]]:
    """The held-out measure, and the tasks to measure, with the texts whose likelihood is taken as their references.

    Args:
        given: what the config names; None leaves it to the file, and says what was chosen.
        is_judged: whether a grader or the environment scores fresh answers.
        data: the splits of the file.

    Raises:
        UserError: where there is nothing to measure by.
    """
    if given is None and is_judged:
        return Answers(), data.heldout
    if given is not None and not isinstance(given, Likelihood):
        return given, data.heldout
    tasks, known = data.attach_targets()
    if not known:
        raise UserError(
            "nothing to measure by: no held-out prompt has a reference, a correction or an answer rated above others",
            expected="a grader of fresh answers, or such prompts",
            remedy="set data.grader (docs/graders.md), or data.heldout to a file of prompts with references",
            key="data.evaluation",
            path=data.source,
        )
    if given is None:
        rank_zero_info(f"data.evaluation: likelihood of {data.target_kind}, {known} of {len(tasks)} held-out prompts")
    return given or Likelihood(), tasks
