"""Graders that need no reference: the arithmetic an answer writes down, and a vote among answers."""

import math
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.graders import Agreement, Arithmetic
from feedback.graders.arithmetic import evaluate_expression
from feedback.types import Episode, Task, Turn


def answer(text: str, task: str = "t") -> Episode:
    return Episode(text, Task(task, ({"role": "user", "content": "?"},)), (Turn("assistant", text),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16-3-4", 9),
        ("2*(3+4)/7", 2),
        ("3,650*10/100", 365),
        ("50%*8", 4),
        ("-5+3", -2),
        ("$3 x 2", 6),
        (".5*4", 2),
        ("1/3", Fraction(1, 3)),
        ("2*1/2", 1),
        ("1/0", None),
        ("2**3", None),
        ("5*", None),
        ("(2", None),
        ("X*2", None),
        ("", None),
        ("1" * 300, None),
        ("(" * 30 + "1" + ")" * 30, None),
        ("9:30-8", None),
        ("2²", None),
    ],
)
def test_value(text, expected):
    assert evaluate_expression(text) == expected


EXPRESSIONS = st.recursive(
    st.integers(0, 999).map(lambda n: (str(n), Fraction(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda part: (
            f"({part[0][0]}){part[1]}({part[2][0]})",
            {"+": part[0][1] + part[2][1], "-": part[0][1] - part[2][1], "*": part[0][1] * part[2][1]}[part[1]],
        )
    ),
    max_leaves=5,
)


@given(EXPRESSIONS)
def test_value_of_generated_expressions(pair):
    assert evaluate_expression(pair[0]) == pair[1]


@given(st.text(st.sampled_from("0123456789+-*/()=.,<>$%x ×\n") | st.characters(), max_size=80))
def test_any_text_is_judged_or_left(text):
    (found,) = Arithmetic()([answer(text)])
    assert math.isnan(found.score) or 0 <= found.score <= 1


@pytest.mark.parametrize(
    ("text", "score", "critique"),
    [
        ("16 - 3 = <<16-3=13>>13 ducks", 1.0, None),
        ("<<16-3=12>>12", 0.0, "It is wrong: 16-3 is 13, not 12."),
        ("<<16-3=13>>12", 0.0, "It is wrong: 16-3 is 13, not 12."),  # the text goes on with another number
        ("<<2*1/2=1.0>>1 and 5 x 2 = 11.", 0.5, "It is wrong: 5 x 2 is 10, not 11."),
        ("10/3 = 3.33", 1.0, None),
        ("10/3 = 3", 0.0, "It is wrong: 10/3 is 3.33333, not 3."),
        ("<<X*2=4>>4", None, None),
        ("no numbers", None, None),
    ],
)
def test_arithmetic(text, score, critique):
    (found,) = Arithmetic()([answer(text)])
    assert (None if math.isnan(found.score) else found.score) == score and found.critique == critique


def test_plain_equations_can_be_left_out():
    assert math.isnan(Arithmetic(check_plain_text=False)([answer("5 x 2 = 11")])[0].score)


def test_long_hostile_text_costs_little():
    began = time.process_time()
    for piece in ("1" * 50_000, "1+" * 25_000, "<<" * 25_000, "1 " * 25_000 + "=", "<<1+1=" + "2" * 50_000):
        Arithmetic()([answer(piece)])
    assert time.process_time() - began < 5


def test_agreement_is_the_share_of_the_others():
    rows = [answer(text) for text in ("A: 18", "so 18.", "26", "I cannot say")] + [answer("18", task="alone")]
    scores = [row.score for row in Agreement()(rows)]
    assert scores[:3] == [0.5, 0.5, 0.0] and all(map(math.isnan, scores[3:]))  # silence is no vote, alone is no score
    assert all(math.isnan(row.score) for row in Agreement(least=3)(rows))
