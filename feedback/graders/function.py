"""A plain function as a grader: `f(episode)` gives a score, a score and a critique, or None."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from feedback.faults import DataError, format_value
from feedback.graders.base import Grader, RuleGrader
from feedback.plugs import import_plug
from feedback.types import Episode, Feedback

EXPECTED = "a score from 0 to 1, True or False, (score, critique), or None for an episode that it cannot judge"
"""What a function may return."""
NAMED = "a function f(episode), or a grader, named as module.name"


@dataclass(frozen=True)
class FunctionGrader(RuleGrader):
    """Grades each episode with a function of your own, named by its dotted path.

    The function takes an episode and returns a score in [0, 1] (True is 1, False is 0, NaN is none), or a score and a
    critique, or None where it has nothing to go by. A score of None beside a critique adds the critique alone.

    `data.grader: my_module.brevity` is short for this class with `function: my_module.brevity`.
    """

    function: Callable[..., Any]
    """The function."""
    name: str | None = None
    """Name of the score; null: the function's own."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the function, by name."""

    def __post_init__(self) -> None:
        signature = _get_signature(self.function)
        if signature is None:
            return
        try:
            signature.bind(None, **self.settings)
        except TypeError as error:
            expected = "a function of one episode" + (f" and {', '.join(self.settings)}" if self.settings else "")
            got = f"{_name(self.function)}{signature}"
            remedy = f"{str(error).capitalize()}. Give every further argument a default, or its value in `settings`."
            raise DataError("config", None, self.dotted_path, got, expected, remedy) from None

    @property
    def dotted_path(self) -> str:
        """The function's dotted path."""
        return _name(self.function)

    def grade(self, episode: Episode) -> Episode:
        """Adds one `Feedback`, or none.

        Raises:
            DataError: where the function returns anything else than it may.
        """
        result = self.function(episode, **self.settings)
        score, critique = self._read_result(result, episode)
        if math.isnan(score) and critique is None:
            return episode
        name = self.name or self.dotted_path.rpartition(".")[2]
        return episode.add_feedback(Feedback("environment", None, name, score, critique))

    def _read_result(self, result: Any, episode: Episode) -> tuple[float, str | None]:
        """Score (NaN: none) and critique of what the function returned."""
        critique = None
        score = result
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str | None):
            score, critique = result
        if score is None:
            return math.nan, critique or None
        value = _to_float(score)
        if value is None or not (math.isnan(value) or 0 <= value <= 1):
            got = f"{format_value(result)} of type {type(result).__name__} for the episode {episode.id}"
            raise DataError("config", None, self.dotted_path, got, EXPECTED, _suggest_remedy(result, value))
        return value, critique or None


def as_grader(value: Grader | type[Grader] | Callable[..., Any] | str) -> Grader:
    """The grader that something stands for: a grader, its class, a function of an episode, or the dotted path of one.

    Raises:
        DataError: where it stands for none.
    """
    if isinstance(value, Grader):
        return value
    if isinstance(value, str):
        return as_grader(import_plug(value, "data.grader", NAMED))
    if isinstance(value, type) and issubclass(value, Grader):
        try:
            return value()
        except TypeError as error:
            got = f"{_name(value)} without arguments ({error})"
            raise DataError("config", None, "data.grader", got, "class_path and init_args") from None
    if not callable(value) or isinstance(value, type):
        raise DataError("config", None, "data.grader", format_value(value), NAMED)
    return FunctionGrader(value)


def read_function(value: Any) -> FunctionGrader:
    """A function named in a config, as a grader: its dotted path, or `class_path` with that and `init_args`.

    Raises:
        ValueError: where the value names something else, a class among it.
    """
    if isinstance(value, FunctionGrader):
        return value
    settings: dict[str, Any] = {}
    if isinstance(value, dict) and set(value) <= {"class_path", "init_args"}:
        settings = dict(value.get("init_args") or {})
        value = value.get("class_path")
    if not isinstance(value, str) or "." not in value:
        raise ValueError(f"got {format_value(value)}, expected {NAMED}")
    found = import_plug(value, "data.grader", NAMED)
    if not callable(found) or isinstance(found, type | Grader):
        raise ValueError(f"got {format_value(value)}, which is no function")
    return FunctionGrader(found, settings=settings)


def write_function(grader: FunctionGrader) -> Any:
    """What `read_function` reads back."""
    if grader.settings:
        return {"class_path": grader.dotted_path, "init_args": grader.settings}
    return grader.dotted_path


def _to_float(score: Any) -> float | None:
    """A number as a float; None for what is none. Scalars of numpy are numbers, arrays and texts are not."""
    if isinstance(score, Real) or type(score).__name__ in ("bool_", "bool"):
        return float(score)
    return None


def _suggest_remedy(result: Any, value: float | None) -> str:
    if value is not None:
        return "Map it to [0, 1]."
    if isinstance(result, tuple | list):
        return "Return one score, or a tuple of a score and a critique."
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        return "Use a plain function, neither async nor with yield."
    return "Return a number; float(...) makes one of a tensor."


def _get_signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """None for a function written in C that tells none."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def _name(plug: Any) -> str:
    name = getattr(plug, "__qualname__", None) or type(plug).__qualname__
    return f"{getattr(plug, '__module__', None) or type(plug).__module__}.{name}"
