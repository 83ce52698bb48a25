"""The order of stages that a transfer matrix predicts to be best: worked numbers, ties, and what is missing."""

import json
from itertools import permutations

import pytest

from fdt.errors import UserError
from fdt.rollout.curricula import ByTransfer, TransferMatrix
from fdt.rollout.curricula.transfer import (
    find_best_order,
    predict_finals,
    predict_mean,
    rank_orders,
    read_matrix,
    write_matrix,
)
from feedback.types import Task

# Mathematics, code and writing: what training on the first does to the second.
MATRIX = TransferMatrix(
    {"m": 0.70, "c": 0.60, "w": 0.80},
    {"m": {"c": 0.02, "w": -0.06}, "c": {"m": 0.03, "w": -0.08}, "w": {"m": 0.0, "c": -0.01}},
)


def test_finals_are_saturation_and_all_later_effects():
    # m, c, w: m = .70 + .03 (c) + 0 (w), c = .60 - .01 (w), w = .80; their mean is 2.12 / 3.
    assert predict_finals(MATRIX, "mcw") == pytest.approx({"m": 0.73, "c": 0.59, "w": 0.80})
    assert predict_mean(MATRIX, "mcw") == pytest.approx(0.7067, abs=5e-5)
    # w, c, m: w = .80 - .08 - .06, c = .60 + .02, m = .70: 1.98 / 3.
    assert predict_finals(MATRIX, "wcm") == pytest.approx({"w": 0.66, "c": 0.62, "m": 0.70})


def test_the_best_and_the_worst_order():
    orders = rank_orders(MATRIX, ["w", "c", "m"])
    assert orders[0] == find_best_order(MATRIX, ["c", "w", "m"]) == ("m", "c", "w")
    assert orders[-1] == ("w", "c", "m") and predict_mean(MATRIX, orders[-1]) == pytest.approx(0.66)
    assert sorted(orders) == sorted(permutations("cmw"))


def test_of_equal_orders_the_lexicographically_first():
    # Every order of three loses 0.1 + 0.2 + 0.3, which sums to something else in the last bit, order by order.
    effects = {"a": {"b": 0.1, "c": 0.2}, "b": {"a": 0.1, "c": 0.3}, "c": {"a": 0.2, "b": 0.3}}
    matrix = TransferMatrix(dict.fromkeys("abc", 0.1), effects)
    assert rank_orders(matrix, ["c", "b", "a"]) == sorted(permutations("abc"))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_pair_that_nobody_measured_is_refused_by_name(value):
    effects = {name: dict(row) for name, row in MATRIX.transfer.items()}
    del effects["w"]["c"]
    if value is not None:
        effects["w"]["c"] = value
    matrix = TransferMatrix(MATRIX.saturation, effects)
    with pytest.raises(UserError, match=r"transfer\.w\.c: .*no entry for training on 'w', measured on 'c'"):
        find_best_order(matrix, ["m", "c", "w"])
    assert find_best_order(matrix, ["m", "c"]) == ("m", "c")  # only what is asked about has to be there
    with pytest.raises(UserError, match=r"saturation\.x: .*got 'c, m, w'"):
        find_best_order(matrix, ["m", "x"])


def test_nine_data_sets_are_too_many():
    names = [str(n) for n in range(9)]
    zeros = dict.fromkeys(names, 0.0)
    matrix = TransferMatrix(zeros, dict.fromkeys(names, zeros))
    with pytest.raises(UserError, match="got 9, expected at most 8"):
        find_best_order(matrix, names)
    assert find_best_order(TransferMatrix({"0": 0.0}, {}), ["0"]) == ("0",)


def test_a_matrix_goes_through_its_file(tmp_path):
    path = tmp_path / "here" / "matrix.json"
    write_matrix(path, MATRIX, {"steps": 30})
    assert read_matrix(path) == MATRIX and json.loads(path.read_text())["steps"] == 30
    tasks = [Task(str(n), (), meta={"dataset": name}) for n, name in enumerate("wcmwcm")]
    curriculum = ByTransfer(str(path))
    curriculum.check(tasks)
    assert [stage.datasets for stage in curriculum.list_stages(["c", "m", "w"])] == [["m"], ["c"], ["w"]]
    with pytest.raises(UserError, match="no entry|does not say"):
        curriculum.check([*tasks, Task("x", (), meta={"dataset": "x"})])


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no transfer matrix"),
        ("[1]", "Expected `object`"),
        ('{"saturation": {"a": "high"}, "transfer": {}}', r"\$\.saturation"),
        ('{"saturation": {"a": 1}}', "missing required field `transfer`"),
    ],
)
def test_a_file_that_is_no_matrix_is_told_with_its_place(tmp_path, text, message):
    path = tmp_path / "matrix.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_matrix(path)
    assert str(path) in str(caught.value)


def test_no_file_is_refused():
    with pytest.raises(UserError, match=r"curriculum\.matrix: no matrix"):
        ByTransfer()
