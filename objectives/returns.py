"""What plugs return, checked: one message that names the plug, what it gave and what it must give."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from objectives.types import Loss


def name_plug(plug: Any) -> str:
    """A plug as messages name it: its class or function, with the module where it is somebody's own."""
    kind = plug if hasattr(plug, "__qualname__") else type(plug)
    return (
        kind.__qualname__ if kind.__module__.split(".")[0] == "objectives" else f"{kind.__module__}.{kind.__qualname__}"
    )


def check_shape(value: Any, shape: Sequence[int], plug: Any, what: str) -> Tensor:
    """The tensor that a plug returned.

    Args:
        value: what it returned.
        shape: what it must have; another one would be broadcast, and train on numbers of other tokens.
        plug: whom to name.
        what: what it must be, in words.

    Raises:
        ValueError: where it is no tensor of this shape.
    """
    if not isinstance(value, Tensor):
        got = type(value).__name__
        raise ValueError(f"{name_plug(plug)}: got {got}, expected {what} {list(shape)} as a tensor.")
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name_plug(plug)}: got a tensor {list(value.shape)}, expected {what} {list(shape)}.")
    return value


def check_numbers(
    value: Any, shape: Sequence[int], plug: Any, what: str, least: float | None = None, allow_nan: bool = False
) -> Tensor:
    """`check_shape` of numbers that are finite, and none of them below `least`; NaN is an absent one if allowed.

    Raises:
        ValueError: where it is something else.
    """
    held = check_shape(value, shape, plug, what).detach()
    wrong = held.isinf() if allow_nan else ~held.isfinite()
    if least is not None:
        wrong = wrong | (held < least)
    if wrong.any():
        bound = "finite" if least is None else f"finite and at least {least:g}"
        absent = ", or nan where there is none" if allow_nan else ""
        raise ValueError(
            f"{name_plug(plug)}: got {held[wrong][0].item():g} in {int(wrong.sum())} of {held.numel()} places, "
            f"expected {what} {list(shape)}, each {bound}{absent}."
        )
    return value


def check_loss(loss: Any, plug: Any) -> Loss:
    """What a term returned. Its numbers may be anything: a loss that is not finite is the guards' to handle.

    Raises:
        ValueError: where it is no `Loss` of one number, with metrics of one number each.
    """
    if not isinstance(loss, Loss):
        raise ValueError(f"{name_plug(plug)}: got {type(loss).__name__}, expected objectives.Loss(value).")
    for name, value in {"value": loss.value, **loss.metrics}.items():
        if not isinstance(value, Tensor) or value.dim():
            got = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            remedy = "Add the tokens up with objectives.average_weighted." if name == "value" else ""
            raise ValueError(
                f"{name_plug(plug)}: got {got} as {name}, expected a tensor of one number []. {remedy}".strip()
            )
    return loss


def check_coefficient(value: Any, plug: Any) -> float:
    """What a schedule returned.

    Raises:
        ValueError: where it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        got = f"{value!r}" if isinstance(value, int | float) else type(value).__name__
        raise ValueError(f"{name_plug(plug)}: got {got}, expected a finite number as the coefficient.")
    return float(value)
