"""A file from which nothing can be learned is refused before the first step, and only such a file."""

from dataclasses import replace

import pytest

from fdt.errors import UserError
from fdt.rollout.checks import check_signals
from fdt.rollout.sources import OnPolicy, Replay
from feedback.hints import CritiqueHint, ReferenceHint
from feedback.types import Episode, Feedback, Task, Turn
from objectives import DatasetMean, Distill, Objective, PolicyGradient

TASK = Task("t", ({"role": "user", "content": "p"},), reference="4")
BARE = [Episode(f"e{n}", TASK, (Turn("assistant", "r"),)) for n in range(3)]
SCORED = [each.add_feedback(Feedback(score=n / 2)) for n, each in enumerate(BARE)]
EQUAL = [each.add_feedback(Feedback(score=0.5)) for each in BARE]
TERMS = Objective({"policy": PolicyGradient(), "distill": Distill()})


def check(episodes, hint=None, source=Replay(), objective=TERMS):
    check_signals(source, objective, DatasetMean(), hint, episodes)


@pytest.mark.parametrize(
    ("episodes", "hint", "said"),
    [
        ([replace(each, turns=()) for each in SCORED], None, "prompts without answers"),
        (BARE, CritiqueHint(), "3 rows, 0 with a score, none with a critique or revision"),
        (EQUAL, CritiqueHint(), "3 rows, 3 with a score, .*every advantage is 0"),
    ],
)
def test_a_file_that_teaches_nothing_is_refused(episodes, hint, said):
    with pytest.raises(UserError, match=said):
        check(episodes, hint)


def test_a_file_that_teaches_something_passes():
    check(SCORED)
    check([*BARE, BARE[0].add_feedback(Feedback(text="No."))], CritiqueHint())
    check([*BARE, BARE[0].add_feedback(Feedback(revision="s"))])
    check(BARE, ReferenceHint())
    check(BARE, source=OnPolicy())
    with pytest.raises(UserError):
        check(SCORED, source=Replay(behaviour="drop"))


def test_an_own_term_may_learn_from_an_answer_alone():
    class Own(PolicyGradient):
        __module__ = "my_terms"

    check(BARE, objective=Objective({"own": Own()}))
