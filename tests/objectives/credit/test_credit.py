"""Credit: worked numbers, missing scores, flat groups."""

import itertools

import pytest
import torch
from torch import nan, tensor

from objectives import DatasetMean, GroupRelative, LeaveOneOut, RawScore

ONE = torch.zeros(4, dtype=torch.long)


def close(got, expected, abs=6e-5):
    assert got.tolist() == pytest.approx(expected, abs=abs)


def test_worked_numbers():
    r = tensor([1.0, 0, 0, 0])
    close(GroupRelative(ddof=1)(r, ONE), [1.5, -0.5, -0.5, -0.5])
    close(LeaveOneOut()(r, ONE), [1, -1 / 3, -1 / 3, -1 / 3])
    close(GroupRelative("none")(tensor([0.99, 0.75, -0.81, -0.01]), ONE), [0.76, 0.52, -1.04, -0.24])
    close(GroupRelative()(tensor([0.6667, 0, 0, -1]), ONE), [1.260, 0.140, 0.140, -1.540], 5e-4)
    close(GroupRelative()(tensor([0.0, 0, 1, 3]), ONE), [-0.8165, -0.8165, 0, 1.6330])
    ten = torch.cat([torch.ones(3), torch.zeros(7)])
    close(GroupRelative()(ten, torch.zeros(10).long()), [1.5275] * 3 + [-0.6547] * 7)
    close(GroupRelative(ddof=1)(ten, torch.zeros(10).long()), [1.4491] * 3 + [-0.6211] * 7)


def test_leave_one_out_is_the_centred_score_stretched():
    r, task = torch.randn(12), tensor([0] * 5 + [1] * 4 + [2] * 3)
    size = torch.bincount(task)[task]
    assert torch.allclose(LeaveOneOut()(r, task), GroupRelative("none")(r, task) * size / (size - 1), atol=1e-6)


CREDITS = [GroupRelative(), GroupRelative("none"), LeaveOneOut(), DatasetMean(), DatasetMean("std")]


@pytest.mark.parametrize("credit", CREDITS)
def test_a_missing_score_is_outside(credit):
    r, task = tensor([1.0, nan, 0.0, 4.0, nan]), tensor([0, 0, 0, 0, 1])
    known = ~r.isnan()
    out = credit(r, task)
    assert out[1] == 0 and out[4] == 0
    assert torch.allclose(out[known], credit(r[known], task[known]))


@pytest.mark.parametrize("credit", [GroupRelative(), GroupRelative(ddof=1), GroupRelative("none"), LeaveOneOut()])
def test_flat_groups_and_groups_of_one_are_exactly_zero(credit):
    assert credit(tensor([0.1, 0.1, 0.1, 0.7]), tensor([0, 0, 0, 1])).tolist() == [0, 0, 0, 0]
    assert credit(tensor([nan, nan, 3.0]), tensor([0, 0, 0])).tolist() == [0, 0, 0]


def test_no_rows():
    nothing = torch.zeros(0)
    for credit in (GroupRelative(), LeaveOneOut(), DatasetMean()):
        assert credit(nothing, nothing.long()).shape == (0,)


def test_groups_of_one_everywhere_are_refused_with_a_way_out():
    for credit in (GroupRelative(), LeaveOneOut()):
        with pytest.raises(ValueError, match="3 rows of 3 tasks.*DatasetMean"):
            credit.check(tensor([4, 7, 1]))
        credit.check(tensor([0, 0, 1]))
    DatasetMean().check(tensor([4, 7, 1]))


def test_the_dataset_mean_spans_tasks():
    r = tensor([1.0, 0.0, 2.0])
    close(DatasetMean()(r, tensor([0, 1, 2])), [0, -1, 1])
    close(DatasetMean("std")(r, tensor([0, 1, 2])), [0, -1.224744, 1.224744])


def test_flipped_labels_shrink_the_expected_advantage():
    """Each label flipped with chance 0.2: the expected centred advantage is 1 - 2 * 0.2 of the clean one."""
    clean, expected = tensor([1.0, 1, 0, 0]), torch.zeros(4)
    for flips in itertools.product([0, 1], repeat=4):
        chance = 0.2 ** sum(flips) * 0.8 ** (4 - sum(flips))
        expected += chance * GroupRelative("none")((clean - tensor(flips)).abs(), ONE)
    close(expected, [0.3, 0.3, -0.3, -0.3])


def test_a_raw_score_that_is_missing_is_neither_good_nor_bad():
    assert RawScore()(tensor([nan, 0.0, 0.5, 1.0]), tensor([0, 0, 1, 2])).tolist() == [0, -1, 0, 1]
