"""A response that offers several answers, judged by several rewards."""

import math

import pytest

from feedback.graders import AnswerSet, Grader, NumberMatch, RegexMatch
from feedback.types import Episode, Feedback, Task, Turn

BARE = RegexMatch(pattern=r"\W*\d+\W*", critique="It says more than the number.", whole=True, name="bare")
BOTH = AnswerSet([NumberMatch(), BARE], answers=3)


def offering(text, reference="5"):
    return Episode(
        "e", Task("t", ({"role": "user", "content": "2+3?"},), reference), (Turn("assistant", text, (1, 2)),)
    )


def judged(text, grader=BOTH, reference="5"):
    return grader([offering(text, reference)])[0]


def test_each_answer_is_judged_by_each_reward():
    found = judged("<answer_1>5</answer_1> or <answer_2>it is 5</answer_2> or <answer_3>6</answer_3>")
    assert list(map(list, found.set_rewards)) == [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert (found.feedback[0].name, found.score) == ("best", 1.0)
    assert found.critique.split("\n")[0] == "Answer 2: It says more than the number."
    assert "Answer 3: It is wrong" in found.critique and found.turns == offering("").turns[:0] + found.turns


def test_equal_and_missing_answers_are_padded_with_zeros():
    found = judged("<answer_1> It is 5 </answer_1><answer_2>it  IS 5</answer_2><ANSWER_3></ANSWER_3>")
    assert list(map(list, found.set_rewards)) == [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]] and found.score == 0.5
    assert "2 of 3 answers are missing" in found.critique
    nothing = judged("I do not know: 5")
    assert list(map(list, nothing.set_rewards)) == [[0.0, 0.0]] * 3 and nothing.score == 0.0
    assert (
        list(map(list, judged("<answer_9>5</answer_9>").set_rewards)) == [[0.0, 0.0]] * 3
    )  # beyond the number asked for


def test_a_set_that_a_reward_cannot_judge_stays_ungraded():
    found = judged("<answer_1>5</answer_1><answer_2>7, they say</answer_2>", reference=None)
    assert found.set_rewards is None and math.isnan(found.score)
    assert (
        found.critique == "Answer 2: It says more than the number.\n1 of 3 answers are missing, or the same as another."
    )


def test_a_reward_judges_all_answers_of_a_batch_in_one_call():
    class Counting(Grader):
        calls: list = []

        def __call__(self, episodes):
            self.calls.append([episode.response for episode in episodes])
            return [e.add_feedback(Feedback(score=float(n % 2))) for n, e in enumerate(episodes)]

    grader = AnswerSet([Counting()], answers=2)
    first, none, second = grader(
        [offering("<answer_1>a</answer_1><answer_2>b</answer_2>"), offering("x"), offering("<answer_2>c</answer_2>")]
    )
    assert Counting.calls == [["a", "b", "c"]]
    assert [[list(r) for r in e.set_rewards] for e in (first, none, second)] == [
        [[0.0], [1.0]],
        [[0.0], [0.0]],
        [[0.0], [0.0]],
    ]


def test_no_answers_or_no_rewards_are_refused():
    for arguments in ({"rewards": []}, {"rewards": [BARE], "answers": 0}):
        with pytest.raises(ValueError, match="AnswerSet"):
            AnswerSet(**arguments)
