"""Numbers of the held-out measures, worked by hand."""

import math

import pytest

from fdt.evaluation import Answers, Likelihood
from fdt.statistics.preference import compute_margin


def test_an_answer_that_nobody_could_score_is_in_no_mean():
    records = [{"score": 1.0, "tokens": 2}, {"score": None, "tokens": 6}, {"score": 0.5, "tokens": 4}]
    assert Answers().summarise_records(records) == {"score": 0.75, "response_length": 4}
    assert Answers().compute_quality(records) == 0.75
    assert math.isnan(Answers().summarise_records([{"score": None, "tokens": 1}])["score"])


def test_a_likelihood_is_nats_a_token_and_lower_is_better():
    records = [{"nll_sum": 6.0, "tokens": 2}, {"nll_sum": 2.0, "tokens": 6}]
    assert Likelihood().summarise_records(records) == {"nll": 1.0}  # 8 nats over 8 tokens, not the mean of 3 and 1/3
    assert Likelihood().compute_quality(records) == -1.0
    low, high = Likelihood().compute_interval(records)
    assert low == pytest.approx(1 / 3) and high == 3


def test_a_correction_is_preferred_by_what_a_token_of_it_costs():
    alone = {"nll_sum": 6.0, "tokens": 2}
    short = {"nll_sum": 4.0, "tokens": 2, "rejected_nll_sum": 10.0, "rejected_tokens": 10}  # 2 nats a token against 1
    clear = {"nll_sum": 2.0, "tokens": 4, "rejected_nll_sum": 3.0, "rejected_tokens": 1}  # 0.5 against 3
    assert (compute_margin(short), compute_margin(clear)) == (-1.0, 2.5)
    found = Likelihood().summarise_records([alone, short, clear])
    assert list(found) == ["nll", "preferred", "margin"], "the first number is the headline"
    assert found == {"nll": 12 / 8, "preferred": 0.5, "margin": 0.75}
    assert list(Likelihood().summarise_records([alone])) == ["nll"], "nothing to prefer it to is no preference"
