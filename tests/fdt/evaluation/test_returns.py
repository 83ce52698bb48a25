"""What an evaluation of one's own returns is checked where it is used, with one message that names it."""

import math

import pytest

from fdt.evaluation import Evaluation
from fdt.evaluation.returns import compute_interval, compute_quality, measure_tasks, summarise_records
from feedback.faults import DataError
from feedback.types import Task

TASK = Task("t", ({"role": "user", "content": "2+2?"},))


class Own(Evaluation):
    def __init__(self, found):
        self.found = found

    def __call__(self, tasks, actor):
        return self.found

    def summarise_records(self, records):
        return self.found

    def compute_interval(self, records):
        return self.found


class OwnQuality(Own):
    def compute_quality(self, records):
        return self.found


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (None, "got None of type NoneType, expected a list of 1 records"),
        ([], "got 0 records for 1"),
        ([0.5], "got 0.5 of type float"),
        ([{"score": {1, 2}}], "got a record of t that is no JSON"),
    ],
)
def test_an_evaluation_gives_one_record_for_each_task(found, got):
    with pytest.raises(DataError, match=rf"test_returns.Own: {got}"):
        measure_tasks(Own(found), [TASK], None)


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (0.5, "got 0.5 of type float as a summary"),
        ({}, "got {} of type dict as a summary"),
        ({"score": "high"}, "got 'high' of type str as 'score' of a summary"),
        ({"score": True}, "got True of type bool as 'score'"),
        ({1: 0.5}, "got 0.5 of type float as 1 of a summary"),
    ],
)
def test_a_summary_is_numbers_by_name(found, got):
    with pytest.raises(DataError, match=rf"test_returns.Own: {got}"):
        summarise_records(Own(found), [])


@pytest.mark.parametrize("found", [0.5, (0.1,), ("a", "b"), (0.9, 0.1), {"low": 0}])
def test_an_interval_is_two_numbers_the_lower_first(found):
    with pytest.raises(DataError, match="as the interval, expected the lower and the upper end, or None"):
        compute_interval(Own(found), [])


@pytest.mark.parametrize("found", [None, "good", (1, 2)])
def test_quality_is_a_number(found):
    with pytest.raises(DataError, match="as the quality, expected a number"):
        compute_quality(OwnQuality(found), [])


def test_what_is_right_passes():
    assert measure_tasks(Own([None, {"id": "u"}]), [TASK, TASK], None) == [None, {"id": "u"}]
    assert math.isnan(summarise_records(Own({"score": math.nan}), [])["score"])
    assert compute_interval(Own(None), []) is None
    assert compute_interval(Own([0, 1]), []) == (0.0, 1.0)
    assert compute_quality(OwnQuality(1), []) == 1.0
