"""What plugs of text return is checked where it is used, with one message that names the plug."""

import math
from dataclasses import replace

import pytest

from feedback.drafters import Drafter, run_drafter
from feedback.faults import DataError
from feedback.graders.base import Grader, run_grader
from feedback.hints import Hint, HintedEpisode, annotate_group, run_hint
from feedback.returns import check_feedback
from feedback.types import Episode, Feedback, Task, Turn

TASK = Task("t", ({"role": "user", "content": "2+2?"},))
ONE = Episode("a", TASK, (Turn("assistant", "5"),))
TWO = replace(ONE, id="b")


class OwnHint(Hint):
    def __init__(self, found):
        self.found = found

    def build_hints(self, episode, truncate=None):
        return self.found

    def annotate_group(self, episodes):
        return self.found


class OwnDrafter(Drafter):
    def __init__(self, found):
        self.found = found

    def __call__(self, prompts, each, seed):
        return self.found


class OwnGrader(Grader):
    def __init__(self, item):
        self.item = item

    def __call__(self, episodes):
        return [replace(each, feedback=(self.item,)) for each in episodes]


@pytest.mark.parametrize(
    "found, got",
    [
        (None, "got None of type NoneType, expected a list of hints"),
        ("no", "got 'no' of type str, expected a list of hints"),
        (["no"], "got 'no' of type str"),
        ([HintedEpisode(3, ONE)], "a hint for a of int"),
        ([HintedEpisode("no", "5")], "a hint for a"),
        ([HintedEpisode("no", replace(ONE, turns=(Turn("assistant", "4"),)))], "changes a turn of the policy"),
    ],
)
def test_a_hint_gives_hints_that_leave_the_answer_alone(found, got):
    for ask in (lambda: run_hint(OwnHint(found), ONE), lambda: OwnHint(found)(ONE)):
        with pytest.raises(DataError, match=rf"test_returns.OwnHint: .*{got}"):
            ask()
    assert run_hint(OwnHint([]), ONE) == [] and OwnHint([])(ONE) is None


@pytest.mark.parametrize("found", [None, [], [ONE], [TWO, ONE], [ONE, "b"], [ONE, TWO, TWO]])
def test_a_hint_annotates_the_episodes_that_it_was_given(found):
    with pytest.raises(DataError, match="test_returns.OwnHint: got"):
        annotate_group(OwnHint(found), [ONE, TWO])


@pytest.mark.parametrize(
    "found, got",
    [
        (None, "got None"),
        ([["4"]], "got 1 lists of drafts for 2"),
        ([["4"], ["4"], []], "got 3 lists of drafts for 2"),
        ([["4"], "4"], "got '4' of type str, expected a list of 2 lists of drafts"),
        ([["4"], [4]], "got 4 of type int, expected a list of drafts"),
        ([["4"], [None]], "got None of type NoneType, expected a list of drafts"),
    ],
)
def test_a_drafter_gives_texts_for_each_prompt(found, got):
    with pytest.raises(DataError, match=rf"test_returns.OwnDrafter: {got}"):
        run_drafter(OwnDrafter(found), [[], []], 1, 0)
    assert run_drafter(OwnDrafter([["4"], ()]), [[], []], 1, 0) == [["4"], []]


@pytest.mark.parametrize(
    "item, got",
    [
        (None, "got None of type NoneType, expected a list of feedback"),
        (0.5, "got 0.5 of type float"),
        (Feedback(score=5.0), "got 5.0 as a score of"),
        (Feedback(score=-0.1), "got -0.1 as a score of"),
        (Feedback(score=None), "got None as a score of"),
        (Feedback(score="1"), "got '1' as a score of"),
        (Feedback(score=math.inf), "got inf as a score of"),
        (Feedback(text=5), "got 5 of type int as the text of feedback on"),
        (Feedback(revision=["4"]), "as the revision of feedback on"),
        (Feedback(score=1.0, turn=0.5), "as the turn of feedback on"),
        (Feedback(score=1.0, name=None), "as the name of feedback on"),
    ],
)
def test_feedback_has_scores_from_0_to_1_and_words(item, got):
    with pytest.raises(DataError, match=rf"test_returns.OwnGrader: .*{got}"):
        run_grader(OwnGrader(item), [ONE])
    with pytest.raises(DataError, match="OwnGrader"):
        check_feedback(OwnGrader(item), (item,), "a turn")
    assert run_grader(OwnGrader(Feedback(score=math.nan, text="no")), [ONE])[0].critique == "no"


@pytest.mark.parametrize("turn", [1, -1])
def test_feedback_names_an_answer_that_is_there(turn):
    with pytest.raises(DataError, match=f"OwnGrader: got {turn} as the turn of feedback on .* one of its 1 answers"):
        run_grader(OwnGrader(Feedback(score=1.0, turn=turn)), [ONE])
    assert run_grader(OwnGrader(Feedback(score=1.0, turn=0)), [ONE])[0].score == 1.0
