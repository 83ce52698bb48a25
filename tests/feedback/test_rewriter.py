"""The rewriting teacher: who is asked, which drafts pass, and what becomes of them."""

import math

import pytest

from feedback.drafters import Drafter
from feedback.faults import DataError
from feedback.graders import LiteralCheck, NumberMatch
from feedback.rewriter import Rewriter
from feedback.types import Episode, Feedback
from tests.helpers.criticised import episode, wrong


def test_rewrites_are_asked_for_where_there_is_a_critique_and_no_revision():
    prompts = Rewriter(NumberMatch()).build_prompts(
        [episode("5", wrong("It is 33.")), episode("33"), episode("5", wrong("no", revision="33"))]
    )
    assert [message["role"] for message in prompts[0]] == ["system", "user"]
    assert prompts[0][1]["content"] == (
        "What is 14 + 19?\n\nAn earlier answer: 5\n\nFeedback on an earlier answer: It is 33."
    )
    assert prompts[1:] == [None, None]


def test_every_draft_gets_a_verdict():
    cases = {
        "33": "accepted",
        " 33 \n": "accepted",
        "32": "not better",
        "5": "same as the answer",
        "": "empty",
        "As the feedback says, 33": "mentions the feedback",
        "x" * 300 + " 33": "too long",
    }
    episodes = [episode("5", wrong("no"), name=str(n)) for n in range(len(cases))]
    episodes += [episode("5", wrong("no", revision="33")), episode("33"), episode("5", wrong("no"), reference="?")]
    drafts = [*cases, "33", None, "33"]
    found, verdicts = Rewriter(NumberMatch()).accept(episodes, drafts)
    assert [row.revision_status for row in found] == [*cases.values(), "own revision", "not asked", "not better"]
    assert sum(verdicts.values()) == len(episodes) and verdicts["accepted"] == 2
    assert [row.revision for row in found[:3]] == ["33", "33", None] and found[0].feedback[-1].source == "policy"
    assert found[0].turns == episodes[0].turns and found[0].score == 0
    with pytest.raises(ValueError, match="expected one for each"):
        Rewriter(NumberMatch()).accept(episodes, [])


def words(critique: str, answer: str = "5") -> Episode:
    return episode(answer, wrong(critique))


def test_the_best_of_several_drafts_wins():
    class Length(NumberMatch):
        def __call__(self, rows):
            return [row.add_feedback(Feedback(score=min(1.0, len(row.response) / 10))) for row in rows]

    drafts = ["5", "ab", "feedback", "abcd", "abcd", "abc"]
    (found,), verdicts = Rewriter(Length()).accept([words("no")], [drafts])
    assert found.revision == "abcd" and verdicts == {"accepted": 1}


def test_a_row_is_refused_for_what_its_best_draft_lacked():
    gate = Rewriter(NumberMatch())
    cases = {
        ("5", ""): "same as the answer",
        ("5", "32"): "not better",
        (): "no draft",
        ("", "the critique says 33"): "mentions the feedback",
    }
    found, verdicts = gate.accept([words("no")] * len(cases), list(cases))
    assert [row.revision_status for row in found] == list(cases.values()) and verdicts.total() == len(cases)


def test_an_unscored_answer_or_draft_is_not_better():
    class Silent(NumberMatch):
        def __call__(self, rows):
            return [row.add_feedback(Feedback(score=math.nan)) for row in rows]

    assert Rewriter(Silent()).accept([words("no")], ["33"])[1] == {"not better": 1}


def test_a_draft_that_ignores_the_critique_is_refused():
    rows = [words("It is wrong: 14 + 19 is 34.")]
    assert Rewriter(NumberMatch()).accept(rows, ["33"])[1] == {"does not follow the critique": 1}
    assert Rewriter(NumberMatch(), critique_check=None).accept(rows, ["33"])[1] == {"accepted": 1}


def test_rewrites_join_their_group_with_a_score_of_their_own():
    rows = [words("no"), episode("33", name="right")]
    found, verdicts = Rewriter(NumberMatch(), add_to_group=True).accept(rows, [["32", "33"], None])
    assert len(found) == 3 and verdicts == {"accepted": 1, "not asked": 1}
    joined = found[2]
    assert (joined.id, joined.task, joined.score, joined.response) == ("e~rewrite", rows[0].task, 1.0, "33")
    assert joined.turns[0].ids is None and joined.is_rewrite and joined.revision is None
    assert found[0].revision == "33" and found[0].score == 0.0


class Echo(Drafter):
    """Answers with what it was asked."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, []

    def __call__(self, prompts, each, seed):
        self.asked.append((len(prompts), each, seed))
        return [["33", self.name][:each] for _ in prompts]


def test_the_policy_drafts_unless_somebody_else_does():
    policy, other = Echo("policy"), Echo("other")
    rows = [words("no"), episode("33"), words("nope", "6")]
    _, verdicts = Rewriter(NumberMatch(), drafts=2).rewrite(rows, policy, 7)
    assert policy.asked == [(2, 2, 7)] and verdicts == {"accepted": 2, "not asked": 1}
    Rewriter(NumberMatch(), drafter=other).rewrite(rows, policy, 7)
    assert len(policy.asked) == 1 and other.asked == [(2, 1, 7)]
    Rewriter(NumberMatch()).rewrite([], policy, 7)
    assert policy.asked[-1] == (0, 1, 7)  # ranks without rows keep the others company


def test_any_grader_of_drafts_serves_as_the_check():
    """A function of the episode that holds the draft as its revision; drafts of all rows are judged in one call."""
    rows = [words("no"), words("no")]
    found, statuses = Rewriter(NumberMatch(), critique_check=is_short).accept(rows, ["33", "It is surely 33."])
    assert statuses == {"accepted": 1, "does not follow the critique": 1}
    assert (found[0].revision, found[1].revision) == ("33", None)
    assert Rewriter(NumberMatch(), critique_check=ungraded).accept(rows, ["33", "33"])[1] == {"accepted": 2}


def is_short(episode):
    return len(episode.revision) < 5, "Be brief."


def ungraded(episode):
    return None


def test_a_function_may_grade_the_drafts():
    assert Rewriter(is_right).accept([words("no")], [["34", "33"]])[1] == {"accepted": 1}
    with pytest.raises(
        DataError, match=r"broken: got 'yes' of type str for the episode e, expected a score from 0 to 1"
    ):
        Rewriter(broken).accept([words("no")], ["33"])


def is_right(episode):
    return episode.response == episode.task.reference


def broken(episode):
    return "yes"


def test_no_drafts_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Rewriter(NumberMatch(), drafts=0)


@pytest.mark.parametrize(
    ("critique", "answer", "draft", "follows"),
    [
        ("It is wrong: 46 + 13 is 59.", "49", "59", True),
        ("It is wrong: 46 + 13 is 59.", "49", "It is 60", False),
        ("The total should be $1,200.00", "12", "1200 dollars", True),
        ("It is wrong: 4 is too low, and it has too few digits.", "4", "5", None),  # keeps the number back
        ("It is not 59.", "49", "60", None),
        ("The answer: 7", "It is 8", "so 7", True),
        ("Step 3 is vague", "x", "y", None),
        ('"always" is too strong', "it always rains", "it always rains", False),
        ('"always" is too strong', "it always rains", "it often rains", True),
        ("Say “thank you” first", "hello", "Thank you, hello", True),
        ("Say `please`", "hello", "hello", False),
        ("Be brief.", "hello", "anything", None),
    ],
)
def test_following_is_stated(critique, answer, draft, follows):
    row = words(critique, answer).add_feedback(Feedback("policy", None, "rewrite", revision=draft))
    (graded,) = LiteralCheck()([row])
    added = [(item.name, item.score) for item in graded.feedback[2:]]
    assert added == ([] if follows is None else [("follows", float(follows))])
