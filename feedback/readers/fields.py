"""The checked reading of one record: every method returns a usable value and notes what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.columns.words import (
    VERDICT_SCALE,
    Rating,
    is_placeholder,
    parse_flag,
    parse_rating,
    parse_verdict,
)
from feedback.readers.record import Record
from feedback.readers.scales import Scale, ScoreRange, suggest_scale

NO_SCALE = "no scale is declared"
"""What is wrong with a file whose scores leave [0, 1]: a cause of many faults, told once."""
SOURCES = ("human", "llm", "environment", "policy")


class Fields:
    """A record, or an object inside one, with the faults found so far, which all objects of a record share."""

    def __init__(
        self,
        record: Record,
        score_range: ScoreRange,
        value: dict[str, Any] | None = None,
        prefix: str = "",
        faults: list[DataError] | None = None,
    ):
        self.record = record
        self.score_range = score_range
        self.prefix = prefix
        self.value: dict[str, Any] = record.fields if value is None else value
        self.faults: list[DataError] = [] if faults is None else faults

    def refuse(self, name: str, got: Any, expected: str, remedy: str = "") -> None:
        """Notes one fault of the field `name`."""
        self._add_error(name, "nothing" if got is None else format_value(got), expected, remedy)

    def get(self, path: str) -> Any:
        """The value of a column, or else at a dotted path; None where it is absent."""
        value: Any = self.value.get(path)
        if value is not None or "." not in path:
            return value
        value = self.value
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def get_text(self, path: str, required: bool = False) -> str | None:
        """A text; an empty one is absent."""
        value = self.get(path)
        if value is not None and not isinstance(value, str):
            self.refuse(path, value, "text")
        elif not value and required:
            self.refuse(path, value, "text that is not empty", "Fill it or leave the row out.")
        return value if isinstance(value, str) and value else None

    def get_label(self, path: str) -> str | None:
        """A name: text, or an integer written out; a float that holds an integer, as pandas makes them, is one."""
        value = _to_integer(self.get(path))
        if isinstance(value, int) and not isinstance(value, bool):
            return format_value(value)
        if value is not None and not isinstance(value, str):
            self.refuse(path, value, "text or an integer")
        return value if isinstance(value, str) and value else None

    def get_choice(self, path: str, options: tuple[str, ...], default: str) -> str:
        """One of several words."""
        value = self.get_text(path) or default
        if value not in options:
            self.refuse(path, value, "one of " + ", ".join(options), "Rename the column to keep it as a note.")
        return value

    def get_flag(self, path: str) -> bool | None:
        """True or false (0 and 1 serve too, and all of them as text), None where it is absent."""
        value = self.get(path)
        found = parse_flag(value)
        if value is not None and value != "" and found is None:
            self.refuse(path, value, "true or false")
        return found

    def get_number(self, path: str, allow_text: bool = False) -> float:
        """A finite number, NaN only where it is absent; with `allow_text` also written as text."""
        value = self.get(path)
        if value is None:
            return math.nan
        found = math.nan
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and (allow_text or self.record.is_text_only) and "_" not in value):
            found = _to_float(value, self.record.has_decimal_comma)
        if not math.isfinite(found):
            self.refuse(path, value, "a finite number", _explain_number(value))
            return math.nan
        return found

    def get_int(self, path: str) -> int | None:
        """An integer, None where it is absent; a float without a fraction is one."""
        value = _to_integer(self.get(path))
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self.refuse(path, value, "an integer")
            return None
        return value

    def get_score(self, path: str, scale: Scale | None = None, allow_text: bool = False) -> tuple[float, Scale | None]:
        """A number as a score in [0, 1], NaN where it is absent, and the scale it came on.

        Args:
            path: where it stands.
            scale: the format's or the item's own; else the declared one; with neither it lies in [0, 1] already.
            allow_text: a number as text serves too.

        A one-word verdict, such as "good" or "wrong", is a score on a scale of its own, from 0 to 1, and so is a
        percentage. What is written as "4/5" must end where the scale ends.
        """
        verdict = parse_verdict(self.get(path))
        if verdict is not None:
            return verdict, VERDICT_SCALE
        rating = parse_rating(self.get(path))
        if rating is not None:
            return self._normalize_rating(path, rating, scale)
        return self.normalize_score(path, self.get_number(path, allow_text), scale)

    def _normalize_rating(self, path: str, rating: Rating, scale: Scale | None) -> tuple[float, Scale | None]:
        if rating.is_share and rating.highest is not None:
            return self.normalize_score(path, rating.value, (0.0, rating.highest))
        known = scale or self.score_range.declared_scale
        if rating.highest is None or (known is not None and rating.highest == known[1]):
            return self.normalize_score(path, rating.value, scale)
        got = format_value(self.get(path))
        top = f"{rating.highest:g}"
        if known is not None:
            self.refuse(path, self.get(path), f"a number from {known[0]:g} to {known[1]:g}", "Correct it or the scale.")
        else:
            remedy = f"Declare the scale: 1 {top}, or 0 {top} where 0 may be given."
            self._add_error(
                path, f"{got}, which does not say where its scale begins", "a scale", remedy
            ).cause = NO_SCALE
        return math.nan, None

    def normalize_score(self, path: str, value: float, scale: Scale | None = None) -> tuple[float, Scale | None]:
        """As `get_score`, for a number already read; notes one that lies off its scale."""
        scale = scale or self.score_range.declared_scale
        if math.isnan(value):
            return math.nan, None
        if scale is not None:
            low, high = scale
            if not low <= value <= high:
                self.refuse(path, value, f"a number from {low:g} to {high:g}", "Correct it or the scale.")
            return (value - low) / (high - low), scale
        self.score_range.add_score(value)
        if self.score_range.is_out_of_range:
            seen = (self.score_range.low, self.score_range.high)
            low, high = suggest_scale(*seen)
            got = f"{value:g} in a file whose scores run from {seen[0]:g} to {seen[1]:g}"
            remedy = f"Declare the scale: its lowest and highest possible score, for example {low:g} {high:g}."
            self._add_error(path, got, "scores from 0 to 1", remedy).cause = NO_SCALE
        return value, None

    def get_scale(self) -> Scale | None:
        """The scale that an item gives itself as `min` and `max`; None where it gives none."""
        low = self.get_number("min")
        high = self.get_number("max")
        if math.isnan(low) and math.isnan(high):
            return None
        if not (low < high and math.isfinite(high - low)):
            self.refuse("max", self.get("max"), "min and max both, min below max", "Give both or neither.")
            return 0.0, 1.0
        return low, high

    def get_list(self, path: str) -> list[Any]:
        """A list; an absent one is empty."""
        value = self.get(path)
        if value is not None and not isinstance(value, list):
            self.refuse(path, value, "a list")
        return value if isinstance(value, list) else []

    def get_texts(self, path: str) -> list[str]:
        """A list of texts, or one text; empty ones are left out."""
        value = self.get(path)
        found = [value] if isinstance(value, str) else self.get_list(path)
        for number, text in enumerate(found):
            if text is not None and not isinstance(text, str):
                self.refuse(f"{path}[{number}]", text, "text")
        return [text for text in found if isinstance(text, str) and text]

    def get_objects(self, path: str) -> list[Fields]:
        """The objects of a list, each with its place in its name."""
        return list(self._iter_objects(path, self.get_list(path)))

    def get_object(self, path: str) -> Fields:
        """The object at a path; an absent one has no fields."""
        value = self.get(path)
        if value is not None and not isinstance(value, dict):
            self.refuse(path, value, "an object")
        return self._make_inner(value if isinstance(value, dict) else {}, path)

    def replace_values(self, values: dict[str, Any]) -> Fields:
        """The same place with other values, made from its own."""
        return Fields(self.record, self.score_range, values, self.prefix, self.faults)

    def collect_rest(self, known: Iterable[str]) -> dict[str, Any]:
        """Every further column that is not null."""
        return {name: value for name, value in self.value.items() if value is not None and name not in known}

    def _iter_objects(self, path: str, values: list[Any]) -> Iterable[Fields]:
        for number, value in enumerate(values):
            if isinstance(value, dict):
                yield self._make_inner(value, f"{path}[{number}]")
            else:
                self.refuse(f"{path}[{number}]", value, "an object")

    def _make_inner(self, value: dict[str, Any], path: str) -> Fields:
        return Fields(self.record, self.score_range, value, f"{self.prefix}{path}.", self.faults)

    def _add_error(self, name: str, got: str, expected: str, remedy: str) -> DataError:
        fault = self.record.build_error(self.prefix + name, got, expected, remedy)
        if not any(known.field == fault.field or is_part(known.field, fault.field) for known in self.faults):
            self.faults.append(fault)
        return fault


def is_part(path: str, whole: str) -> bool:
    """Whether a path lies inside another: what follows from a fault of a part is not told as a fault of the whole."""
    return path.startswith((f"{whole}[", f"{whole}."))


def _explain_number(value: Any) -> str:
    """What to do about a value that is no number."""
    if isinstance(value, bool):
        return "Write 1 for true and 0 for false; a column of marks is read as --map score=COLUMN says."
    if isinstance(value, (dict, list)):
        return "Write one number; several scores are read as scores: [{name, value}]."
    if isinstance(value, str) and "_" in value and math.isfinite(_to_float(value)):
        return "Write it without underscores."
    if isinstance(value, str) and math.isfinite(_to_float(value, has_decimal_comma=True)) and "," in value:
        return "Write a decimal point."
    if isinstance(value, str) and math.isfinite(_to_float(value)):
        return "Write it without quotation marks."
    if isinstance(value, str) and not is_placeholder(value) and not math.isinf(_to_float(value)):
        return "Write a number; of words, good, bad, ok and their like are read."
    return "Leave it out where there is no score."


def _to_integer(value: Any) -> Any:
    """The value, or the integer that a float stands for."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _to_float(value: int | float | str, has_decimal_comma: bool = False) -> float:
    if has_decimal_comma and isinstance(value, str) and value.count(",") == 1 and "." not in value:
        value = value.replace(",", ".")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
