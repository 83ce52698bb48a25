"""What an engine of one's own returns is checked where it is used, with one message that names it."""

import math

import pytest
import torch

from fdt.engines import Engine, Limit, Sample
from fdt.engines.returns import generate_samples, get_max_answer_tokens
from feedback.faults import DataError

GOOD = Sample((1, 2), (-0.5, math.nan))


class Own(Engine):
    def __init__(self, found, most=8):
        self.found = found
        self.most = most

    @property
    def max_answer_tokens(self):
        return self.most

    def generate(self, policy, prompts, seed, limits=None):
        return self.found


class OfTenIds:
    """What the check asks of a policy: its vocabulary."""

    head = torch.zeros(10, 2)


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (None, "got None of type NoneType, expected a list of 1 samples"),
        ([], "got 0 samples for 1"),
        ([GOOD, GOOD], "got 2 samples for 1"),
        (["4"], "got '4' of type str"),
        ([Sample("4", ())], "got '4' of type str, expected a list of ids in answer 1"),
        ([Sample((1.0,), (0.0,))], "got 1.0 of type float, expected a list of ids in answer 1"),
        ([Sample((1, 10), (0.0, 0.0))], "got the id 10 in answer 1, expected ids from 0 to 9"),
        ([Sample((-1,), (0.0,))], "got the id -1 in answer 1"),
        ([Sample((1, 2), (0.0,))], "got 1 log-probs for 2 ids in answer 1"),
        ([Sample((1,), None)], "got None of type NoneType, expected a list of log-probs"),
        ([Sample((1,), (0.9,))], "got 0.9 as a log-prob in answer 1"),  # a probability
        ([Sample((1,), (-math.inf,))], "got -inf as a log-prob in answer 1"),
        ([Sample((1, 2, 3), (0.0,) * 3)], "got 3 ids in answer 1, expected at most its limit of 2"),
    ],
)
def test_an_engine_gives_one_sample_for_each_prompt(found, got):
    with pytest.raises(DataError, match=rf"test_returns.Own: {got}"):
        generate_samples(Own(found), OfTenIds(), [[1]], 0, [Limit(2)])


def test_samples_pass_as_they_are():
    assert generate_samples(Own([GOOD]), OfTenIds(), [[1]], None) == [GOOD]
    assert generate_samples(Own([]), OfTenIds(), [], None) == []
    assert get_max_answer_tokens(Own([])) == 8


@pytest.mark.parametrize("most", [None, 0, 2.5, True])
def test_the_longest_answer_is_a_positive_integer(most):
    with pytest.raises(DataError, match="as max_answer_tokens, expected a positive integer"):
        get_max_answer_tokens(Own([], most))
