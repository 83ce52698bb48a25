"""What training on one data set does to another, and the order of stages that follows from it.

After Omni-Thinker (arXiv 2507.14783); its exact formula was not to be had, so this is a reconstruction. Two assumptions
carry it: an effect is the same wherever training starts, and one stage brings its data set as far as it goes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fdt.errors import UserError

MOST = 8
"""Most data sets whose orders are enumerated: 40,320 of them."""
DIGITS = 12
"""Predicted means that agree to so many digits are equal: sums of the same effects differ in the last bit."""


class TransferMatrix(msgspec.Struct, frozen=True):
    """Measured before anything is trained (`start`) and after each data set alone."""

    saturation: dict[str, float]
    """The score of each data set after training on it alone."""
    transfer: dict[str, dict[str, float]]
    """transfer[i][j] = score of j after training on i from the start, less that at the start."""
    start: dict[str, float] = {}
    """The score of each data set at the start."""


def read_matrix(path: str | Path) -> TransferMatrix:
    """A matrix from its JSON file; further keys are left alone.

    Raises:
        UserError: where there is no such file, or it is no such matrix.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=TransferMatrix)
    except OSError as fault:
        raise UserError("no transfer matrix", got=str(fault), path=path, remedy="see: fdt bench transfer") from fault
    except msgspec.DecodeError as fault:
        expected = 'numbers under "saturation", and under "transfer" by the data set that was trained on'
        raise UserError("transfer matrix", got=str(fault), expected=expected, path=path) from fault


def write_matrix(path: Path, matrix: TransferMatrix, further: dict[str, Any]) -> None:
    """Writes it as JSON, with what else is known of how it was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = msgspec.to_builtins(matrix) | further
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def predict_finals(matrix: TransferMatrix, order: Sequence[str]) -> dict[str, float]:
    """The score of each data set after stages in this order: its saturation, and the effects of all stages after it.

    Raises:
        UserError: where the matrix lacks one of these numbers; none is taken for 0.
    """
    found = {}
    for place, name in enumerate(order):
        effects = [get_effect(matrix, later, name) for later in order[place + 1 :]]
        found[name] = math.fsum([_get_saturation(matrix, name), *effects])
    return found


def predict_mean(matrix: TransferMatrix, order: Sequence[str]) -> float:
    """The mean of `predict_finals`."""
    return math.fsum(predict_finals(matrix, order).values()) / len(order)


def rank_orders(matrix: TransferMatrix, names: Sequence[str]) -> list[tuple[str, ...]]:
    """All orders of these data sets, the best predicted mean first; of equal ones the lexicographically first.

    Raises:
        UserError: where the matrix lacks a pair, or there are too many data sets to try all orders.
    """
    if len(names) > MOST:
        raise UserError(
            "too many data sets to try every order",
            got=len(names),
            expected=f"at most {MOST}",
            remedy="list the stages yourself: fdt.rollout.curricula.Stages",
        )
    check_complete(matrix, names)
    orders = itertools.permutations(sorted(names))
    return sorted(orders, key=lambda order: (-round(predict_mean(matrix, order), DIGITS), order))


def find_best_order(matrix: TransferMatrix, names: Sequence[str]) -> tuple[str, ...]:
    """The first of `rank_orders`.

    Raises:
        UserError: as there.
    """
    return rank_orders(matrix, names)[0]


def check_complete(matrix: TransferMatrix, names: Sequence[str]) -> None:
    """
    Raises:
        UserError: where the matrix lacks the saturation of a data set, or the effect of one on another.
    """
    for name in names:
        _get_saturation(matrix, name)
    for trained, measured in itertools.permutations(names, 2):
        get_effect(matrix, trained, measured)


def get_effect(matrix: TransferMatrix, trained: str, measured: str) -> float:
    """What training on one data set did to the score of another.

    Raises:
        UserError: where it was not measured.
    """
    value = matrix.transfer.get(trained, {}).get(measured, math.nan)
    if math.isnan(value):
        raise UserError(
            f"the transfer matrix has no entry for training on {trained!r}, measured on {measured!r}",
            expected="a measured number for every pair, since an effect that nobody measured is not 0",
            key=f"transfer.{trained}.{measured}",
            remedy="measure it: fdt bench transfer",
        )
    return value


def _get_saturation(matrix: TransferMatrix, name: str) -> float:
    value = matrix.saturation.get(name, math.nan)
    if math.isnan(value):
        raise UserError(
            f"the transfer matrix does not say how well {name!r} is answered after training on it",
            got=", ".join(sorted(matrix.saturation)) or "no data set",
            expected=name,
            key=f"saturation.{name}",
            remedy="measure it: fdt bench transfer",
        )
    return value
