"""What plugs of text return, checked: one message that names the plug, what it gave and what it must give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from feedback.faults import DataError, format_value
from feedback.types import Episode, Feedback


def name_plug(plug: Any) -> str:
    """A plug as messages name it: its class or the function that it is, with the module where it is somebody's own."""
    kind = plug if hasattr(plug, "__qualname__") else type(plug)  # a function may be the plug
    own = kind.__module__.split(".")[0] not in ("feedback", "fdt")
    named = f"{kind.__module__}.{kind.__qualname__}" if own else kind.__qualname__
    return str(getattr(plug, "dotted_path", named))  # that of the function, where a function is the plug


def refuse(plug: Any, got: str, expected: str, remedy: str = "") -> DataError:
    """The error for what a plug returned."""
    return DataError("config", None, name_plug(plug), got, expected, remedy)


def describe(value: Any) -> str:
    """A value and its type, as a message repeats it."""
    return f"{format_value(value)} of type {type(value).__name__}"


def check_list(plug: Any, found: Any, kind: Any, what: str, count: int | None = None) -> list[Any]:
    """A list or tuple that a plug returned: of `kind`, a class or a union of some, and of `count` members.

    Raises:
        DataError: where it is something else.
    """
    expected = f"a list of {what}" if count is None else f"a list of {count} {what}, one for each"
    if not isinstance(found, list | tuple):
        raise refuse(plug, describe(found), expected)
    if count is not None and len(found) != count:
        raise refuse(plug, f"{len(found)} {what} for {count}", expected)
    for item in found:
        if not isinstance(item, kind):
            raise refuse(plug, describe(item), expected)
    return list(found)


def check_same_episodes(plug: Any, before: Sequence[Episode], found: Any) -> list[Episode]:
    """What a plug returned for episodes: the same ones in the same order.

    Raises:
        DataError: where it is something else.
    """
    after = check_list(plug, found, object, "episodes", len(before))
    for given, episode in zip(before, after, strict=True):
        if not isinstance(episode, Episode):
            raise refuse(plug, f"{format_value(episode)} in the place of the episode {given.id}", "an episode")
        if episode.id != given.id:
            got = f"the episode {episode.id} in the place of {given.id}"
            raise refuse(plug, got, "the same episodes in the same order, with their ids")
    return after


def check_feedback(plug: Any, found: Any, about: str) -> tuple[Feedback, ...]:
    """Feedback that a plug returned `about` something.

    Raises:
        DataError: where an item is none, its score no number from 0 to 1 or NaN, or another field of the wrong type.
    """
    for item in check_list(plug, found, Feedback, "feedback"):
        if not is_score(item.score):
            got = f"{format_value(item.score)} as a score of {about}"
            raise refuse(plug, got, "a score from 0 to 1, or NaN for none", "Map it to [0, 1].")
        for name, kind in (("text", str), ("revision", str), ("name", str), ("turn", int)):
            value = getattr(item, name)
            if not isinstance(value, kind) and not (value is None and name != "name"):
                raise refuse(
                    plug, f"{describe(value)} as the {name} of feedback on {about}", f"{kind.__name__} or None"
                )
    return tuple(found)


def check_episode(plug: Any, episode: Episode) -> None:
    """What a plug said about an episode: each item, and that the turns it names are there.

    Raises:
        DataError: as `check_feedback`, and where the episode has no answer at an item's turn.
    """
    about = f"the episode {episode.id}"
    answers = len(episode.policy_places)
    for item in check_feedback(plug, episode.feedback, about):
        if item.turn is not None and not 0 <= item.turn < answers:
            known = f"one of its {answers} answers, counted from 0, or None for the whole episode"
            raise refuse(plug, f"{item.turn} as the turn of feedback on {about}", known)


def is_score(score: Any) -> bool:
    """Whether something is a score in [0, 1], or NaN."""
    return isinstance(score, int | float) and (math.isnan(score) or 0 <= score <= 1)
