"""A verifier for answers that end in a number: it scores, and says in words what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from feedback.graders.base import build_rule_feedback
from feedback.graders.verifier import Verifier, reveal_answer, shorten_text
from feedback.types import Feedback, Task

NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\d))?", re.ASCII)
PLACES = ("ones", "tens", "hundreds", "thousands")
LONGEST = 10_000
"""Characters at the end of an answer in which its number is looked for."""


@dataclass(frozen=True)
class NumberMatch(Verifier):
    """Compares the last number of the answer with the last number of the task's reference.

    Equal, or nearer than a tolerance: score 1 and no words. Different, or no number: score 0 and a critique. A task
    whose reference holds no number is not judged. Nothing is evaluated: both sides are read as decimals.
    """

    absolute: float = 0.0
    """Largest difference that still counts as equal."""
    relative: float = 0.0
    """The same as a share of the right number; the larger of both counts."""

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a tolerance of at least 0")

    def compare(self, answer: str | None, task: Task) -> Feedback | None:
        """One `Feedback` named "number"; None where the reference holds no number."""
        right = find_last_number(task.reference or "")
        if right is None:
            return None
        given = None if answer is None else find_last_number(answer)
        if given is not None and self._is_close(given, right):
            return build_rule_feedback("number", 1.0)
        return build_rule_feedback("number", 0.0, reveal_answer(task) if self.reveal else describe_error(given, right))

    def _is_close(self, given: Decimal, right: Decimal) -> bool:
        allowed = max(Decimal(str(self.absolute)), Decimal(str(self.relative)) * abs(right))
        return given == right or abs(given - right) <= allowed


def find_last_number(text: str) -> Decimal | None:
    """The last number written in `text`; commas may group digits, an exponent may follow. None where there is none."""
    found = NUMBER.findall(text[-LONGEST:])
    return Decimal(found[-1].replace(",", "")) if found else None


def describe_error(given: Decimal | None, right: Decimal) -> str:
    """What is wrong with `given`, without stating `right`: the direction, and for integers of one length the digits."""
    if given is None:
        return "It is wrong: it holds no number."
    text = f"It is wrong: {shorten_text(f'{given}')} is too {'high' if given > right else 'low'}"
    digits = f"{abs(given)}"
    expected = f"{abs(right)}"
    if not (digits.isdigit() and expected.isdigit()) or given * right < 0:
        return text + "."
    if len(digits) != len(expected):
        return f"{text}, and it has too {'many' if len(digits) > len(expected) else 'few'} digits."
    pairs = zip(PLACES, reversed(digits), reversed(expected), strict=False)
    wrong = [place for place, one, other in pairs if one != other]
    if not wrong:
        return text + "."
    noun = "digit is" if len(wrong) == 1 else "digits are"
    return f"{text}, and its {' and '.join(reversed(wrong))} {noun} wrong."
