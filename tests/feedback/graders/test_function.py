"""A plain function as a grader, and what is said of graders that return something else."""

import math
import re
from functools import partial

import numpy as np
import pytest

from feedback.faults import DataError
from feedback.graders import AnswerSet, FunctionGrader, Grader, GraderChain, NumberMatch, as_grader, run_grader
from feedback.graders.function import read_function, write_function
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.paths import ROOT

MODULE = '''
from feedback.graders import NumberMatch

LIMIT = 5
graders = NumberMatch(reveal=False)

def brevity(episode, limit: int = 5):
    """Short answers are good."""
    return 1.0 if len(episode.response) <= limit else (0.25, "Be shorter.")

class Rules:
    @staticmethod
    def always(episode):
        return True
'''


def episode(response: str = "33", name: str = "e") -> Episode:
    return Episode(name, Task("t", ({"role": "user", "content": "14 + 19?"},), "33"), (Turn("assistant", response),))


def test_what_a_function_may_return_becomes_feedback():
    cases = {
        "score": (0.5, (0.5, None)),
        "right": (True, (1.0, None)),
        "wrong": (False, (0.0, None)),
        "whole": (1, (1.0, None)),
        "numpy": (np.float32(0.5), (0.5, None)),
        "truth": (np.bool_(True), (1.0, None)),
        "words": ((0.25, "Count again."), (0.25, "Count again.")),
        "silence": ((1.0, None), (1.0, None)),
        "empty": ((1.0, ""), (1.0, None)),
    }
    for name, (result, expected) in cases.items():
        (graded,) = FunctionGrader(lambda row, result=result: result, name)([episode()])
        (item,) = graded.feedback
        assert (item.name, item.source, item.score, item.text) == (name, "environment", *expected)


@pytest.mark.parametrize("result", [None, math.nan, (None, None), (math.nan, "")])
def test_what_cannot_be_judged_stays_as_it_is(result):
    row = episode()
    assert FunctionGrader(lambda row: result)([row]) == [row]


def test_a_critique_needs_no_score():
    (graded,) = FunctionGrader(lambda row: (None, "Count again."))([episode()])
    assert math.isnan(graded.score) and graded.critique == "Count again."


def judge(episode):
    return RESULT


RESULT: object = None


@pytest.mark.parametrize(
    ("result", "got", "remedy"),
    [
        (1.5, "got 1.5 of type float", "Map it to [0, 1]."),
        (-1, "got -1 of type int", "Map it to [0, 1]."),
        ((7, "Good."), "got (7, 'Good.') of type tuple", "Map it to [0, 1]."),
        ("0.5", "got '0.5' of type str", "Return a number"),
        ([0.5], "got [0.5] of type list", "Return one score"),
        ((0.5, "a", "b"), "got (0.5, 'a', 'b') of type tuple", "Return one score"),
        ((0.5, 0.5), "got (0.5, 0.5) of type tuple", "Return one score"),
        (("Good.", 0.5), "got ('Good.', 0.5) of type tuple", "Return one score"),
        ({"score": 0.5}, "got {'score': 0.5} of type dict", "Return a number"),
        (np.ones(2), "got array([1., 1.]) of type ndarray", "Return a number"),
        ((part for part in (0.5,)), "of type generator", "Use a plain function"),
    ],
)
def test_anything_else_is_named_in_one_line(monkeypatch, result, got, remedy):
    monkeypatch.setitem(globals(), "RESULT", result)
    with pytest.raises(DataError) as error:
        as_grader(judge)([episode(name="row 7")])
    text = str(error.value)
    assert text.startswith(f"config: {__name__}.judge: ") and got in text and "for the episode row 7" in text
    assert "expected a score from 0 to 1, True or False, (score, critique), or None" in text and remedy in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: 1, r"expected a function of one episode\. Too many positional arguments"),
        (lambda prompts, completions: 1, r"\(prompts, completions\), expected .* Missing a required argument: 'comp"),
        (lambda *, episode: 1, "Too many positional"),
    ],
)
def test_a_function_of_something_else_is_refused_before_any_step(function, words):
    with pytest.raises(DataError, match=words):
        FunctionGrader(function)


def test_settings_and_partials():
    def near(episode, right, allowed=0):
        return abs(int(episode.response) - right) <= allowed

    assert FunctionGrader(near, settings={"right": 33})([episode("33")])[0].score == 1
    assert FunctionGrader(near, settings={"right": 30, "allowed": 3})([episode("33")])[0].score == 1
    assert FunctionGrader(partial(near, right=30), "near")([episode("33")])[0].feedback[0].name == "near"
    with pytest.raises(DataError, match="Missing a required argument: 'right'"):
        FunctionGrader(near)
    with pytest.raises(DataError, match="unexpected keyword argument 'rihgt'"):
        FunctionGrader(near, settings={"right": 30, "rihgt": 30})


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_graders.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_dotted_path_is_a_grader(module):
    short, long = as_grader("own_graders.brevity")([episode("33"), episode("thirty-three")])
    assert (short.score, long.score, long.critique) == (1.0, 0.25, "Be shorter.")
    assert short.feedback[0].name == "brevity"
    assert as_grader("own_graders.Rules.always")([episode()])[0].score == 1
    assert as_grader("own_graders.graders") == NumberMatch(reveal=False)
    assert as_grader("feedback.graders.NumberMatch") == as_grader(NumberMatch) == NumberMatch()
    grader = NumberMatch()
    assert as_grader(grader) is grader


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("brevity", "got 'brevity', expected a function f.episode., .* Write it as module.name"),
        ("own graders.f", "Write it as module.name"),
        ("own_grader.brevity", "there is no module own_grader, .*PYTHONPATH=."),
        ("own_graders.brevty", "own_graders has no brevty"),
        ("own_graders.Rules.never", "own_graders.Rules has no never"),
        ("own_graders.LIMIT", "got 5, expected a function"),
        ("own_graders.Rules", "expected a function"),
        ("needs_more.f", "whose module cannot be imported .No module named 'nowhere_to_be_found'"),
        ("feedback.graders.RegexMatch", "without arguments .*expected class_path and init_args"),
    ],
)
def test_a_path_that_names_no_grader_is_refused_in_one_line(module, path, words):
    with pytest.raises(DataError, match=words) as error:
        as_grader(path)
    assert str(error.value).startswith("config: data.grader: got ") and "\n" not in str(error.value)


def test_the_function_in_the_docs_grades(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "graders.md").read_text(), re.DOTALL)
    (tmp_path / "docs_grader.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    (long,) = read_function({"class_path": "docs_grader.brevity", "init_args": {"words": 2}})(
        [episode("one two three")]
    )
    assert (long.score, long.critique) == (0.0, "It has 3 words; 2 are enough.")
    assert long.feedback[0].name == "brevity"


def test_configs_come_back(module):
    for value in ("own_graders.brevity", {"class_path": "own_graders.brevity", "init_args": {"limit": 20}}):
        assert write_function(read_function(value)) == value
    assert read_function({"class_path": "own_graders.brevity"}) == FunctionGrader(read_function(value).function)
    number = {"class_path": "feedback.graders.NumberMatch"}
    for value in ("NumberMatch", number, {"function": "own_graders.brevity"}, 3):
        with pytest.raises(ValueError, match="got"):
            read_function(value)


def test_functions_stand_in_chains_and_sets():
    def has_word(episode):
        return "duck" in episode.response

    (graded,) = GraderChain([NumberMatch(), has_word])([episode("33 ducks")])
    assert [(item.name, item.score) for item in graded.feedback] == [("number", 1), ("has_word", 1)]
    (graded,) = AnswerSet([has_word], answers=2)([episode("<answer_1>duck</answer_1><answer_2>cod</answer_2>")])
    assert graded.set_rewards == ((1.0,), (0.0,))


class Given(Grader):
    """Returns what it was made with."""

    def __init__(self, *results):
        self.results = results

    def __call__(self, episodes):
        return list(self.results)


def test_graders_of_ones_own_are_checked():
    one, two = episode(name="a"), episode(name="b")
    assert run_grader(Given(one.add_feedback(Feedback(score=0.5))), [one])[0].score == 0.5
    assert run_grader(Given(), []) == []
    high = Feedback(score=10.0)
    for results, words in [
        ((one,), r"Given: got 1 episodes for the 2 that it was given, expected one for each, in the same order"),
        ((one, two, two), "got 3 episodes for the 2"),
        ((two, one), "got the episode b in the place of a, expected the same episodes in the same order"),
        ((one, 0.5), "got 0.5 in the place of the episode b, expected an episode"),
        ((one, two.add_feedback(high)), r"got 10.0 as a score of the episode b, expected .* from 0 to 1.*Map it to"),
    ]:
        with pytest.raises(DataError, match=words) as error:
            run_grader(Given(*results), [one, two])
        assert f"config: {__name__}.Given: " in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(DataError, match=words):
            GraderChain([NumberMatch(), Given(*results)])([one, two])
    with pytest.raises(DataError, match="got None of type NoneType, expected a list of 1 episodes"):
        run_grader(type("Nothing", (Given,), {"__call__": lambda self, episodes: None})(), [one])
