"""A verifier for answers that end in a number: it scores, and says in words what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from feedback.critics.base import Critic
from feedback.types import Episode, Feedback

NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?", re.ASCII)
PLACES = ("ones", "tens", "hundreds", "thousands")


@dataclass(frozen=True)
class NumberMatch(Critic):
    """Compares the last number of the response with the last number of the task's reference.

    Equal: score 1 and no words. Different, or no number: score 0 and a critique. A task whose reference holds no
    number is not judged. Nothing is evaluated: both sides are read as decimals.
    """

    tell: bool = True
    """True: the critique states the right answer. False: it only says what is wrong."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` named "number" to each episode that has a reference."""
        return [self._judge(episode) for episode in episodes]

    def _judge(self, episode: Episode) -> Episode:
        right = last_number(episode.task.reference or "")
        if right is None:
            return episode
        given = last_number(episode.response)
        if given == right:
            return episode.with_feedback(Feedback("environment", None, "number", 1.0))
        text = self._told(episode) if self.tell else wrong_about(given, right)
        return episode.with_feedback(Feedback("environment", None, "number", 0.0, text))

    @staticmethod
    def _told(episode: Episode) -> str:
        right = (episode.task.reference or "").strip()
        expression = episode.task.meta.get("expression")
        asked = expression if isinstance(expression, str) and expression else "the right answer"
        return f"It is wrong: {asked} is {right}."


def last_number(text: str) -> Decimal | None:
    """The last number written in `text`; commas may group digits. None where there is none."""
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def wrong_about(given: Decimal | None, right: Decimal) -> str:
    """What is wrong with `given`, without stating `right`: the direction, and for integers of one length the digits."""
    if given is None:
        return "It is wrong: it holds no number."
    text = f"It is wrong: {given} is too {'high' if given > right else 'low'}"
    digits, expected = f"{abs(given)}", f"{abs(right)}"
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
