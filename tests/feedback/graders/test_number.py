"""The number verifier: worked answers, worked critiques."""

import math

import pytest

from feedback.graders import NumberMatch
from feedback.graders.number import describe_error, find_last_number
from feedback.types import Episode, Task, Turn


def episode(response: str, reference: str | None = "33", **meta: object) -> Episode:
    return Episode(
        "e",
        Task("t", ({"role": "user", "content": "What is 14 + 19?"},), reference, meta=dict(meta)),
        (Turn("assistant", response),),
    )


@pytest.mark.parametrize("response", ["33", "14 + 19 = 33.", "It is 33!", "033", "33.0", "$33", "14 + 19 is 33\n"])
def test_right_answers_get_1_and_no_words(response):
    (judged,) = NumberMatch()([episode(response)])
    assert judged.score == 1 and judged.critique is None and judged.feedback[0].source == "environment"


@pytest.mark.parametrize("response", ["", "34", "thirty-three", "-33", "33 is wrong, it is 32", "3 3", "3.3"])
def test_wrong_answers_get_0_and_words(response):
    (judged,) = NumberMatch()([episode(response, expression="14 + 19")])
    assert judged.score == 0 and judged.critique == "It is wrong: 14 + 19 is 33."


def test_without_an_expression_the_right_answer_is_named():
    assert NumberMatch()([episode("5")])[0].critique == "It is wrong: the right answer is 33."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("52", "It is wrong: 52 is too high, and its tens and ones digits are wrong."),
        ("23", "It is wrong: 23 is too low, and its tens digit is wrong."),
        ("38", "It is wrong: 38 is too high, and its ones digit is wrong."),
        ("3", "It is wrong: 3 is too low, and it has too few digits."),
        ("1,419", "It is wrong: 1419 is too high, and it has too many digits."),
        ("32.5", "It is wrong: 32.5 is too low."),
        ("-33", "It is wrong: -33 is too low."),
        ("none", "It is wrong: it holds no number."),
    ],
)
def test_terse_critiques_do_not_state_the_answer(given, said):
    assert NumberMatch(reveal=False)([episode(given)])[0].critique == said


def test_a_task_without_a_number_is_not_judged():
    for reference in (None, "blue"):
        (judged,) = NumberMatch()([episode("33", reference)])
        assert judged.feedback == () and math.isnan(judged.score)


def test_numbers_are_read_and_never_evaluated():
    assert find_last_number("__import__('os').system('x') 7") == 7
    assert find_last_number("5-3") == 3 and find_last_number("5 - -3") == -3 and find_last_number("1,234.50") == 1234.5
    assert find_last_number("x1 v2.0") is None
    assert "too high" in describe_error(find_last_number("9" * 6000), find_last_number("1"))
