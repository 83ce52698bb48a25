"""Does the arithmetic that an answer writes down hold? It asks for no reference, so it can judge rewrites alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from feedback.graders.base import RuleGrader, build_rule_feedback
from feedback.types import Episode

NUMBER = re.compile(r"\d[\d,]*(?:\.\d*)?|\.\d+", re.ASCII)
ANNOTATION = re.compile(r"<<([^<>=\n]{1,200})=([^<>=\n]{1,60})>>\s*\$?(-?[\d.][\d.,]*)?")
OPERAND = r"-?\$?[\d.][\d.,]{0,30}"
EQUATION = re.compile(
    rf"((?:{OPERAND}\s{{0,3}}[-+*/x×÷]\s{{0,3}}){{1,20}}{OPERAND})"
    r"\s{0,3}=\s{0,3}\$?(-?[\d.][\d.,]{0,30})()",
    re.ASCII,
)
SIGNS = str.maketrans({"x": "*", "×": "*", "÷": "/", "$": "", " ": ""})


@dataclass(frozen=True)
class Arithmetic(RuleGrader):
    """Checks `<<16-3=13>>13`, as GSM8K's solutions annotate their steps (arXiv 2110.14168), and plain `16 - 3 = 13`.

    The score, named "arithmetic", is the share of those steps that hold; a critique names the others. An answer that
    writes down no step that can be read is not judged. Values are read by a small parser: nothing is evaluated as code.
    """

    check_plain_text: bool = True
    """True: equations of plain text are checked too, where they name numbers only; false: annotations alone."""

    def grade(self, episode: Episode) -> Episode:
        """Adds one `Feedback`, or none."""
        found = extract_equations(episode.response, self.check_plain_text)
        if not found:
            return episode
        wrong = [
            f"{left} is {format_number(right)}, not {stated}." for left, right, stated, holds in found if not holds
        ]
        score = 1 - len(wrong) / len(found)
        return episode.add_feedback(
            build_rule_feedback("arithmetic", score, f"It is wrong: {' '.join(wrong)}" if wrong else None)
        )


def extract_equations(text: str, check_plain_text: bool) -> list[tuple[str, Fraction, str, bool]]:
    """Each step that can be read: what is calculated, its value, what the text states, and whether that holds."""
    pieces = [match.groups("") for match in ANNOTATION.finditer(text)]
    if check_plain_text:
        pieces += [match.groups() for match in EQUATION.finditer(ANNOTATION.sub(" ", text))]
    found = []
    for left, stated, repeated in pieces:
        right = evaluate_expression(left)
        given = evaluate_expression(stated.rstrip(".,"))
        if right is None or given is None:
            continue
        numbers = [(given, stated)]
        if (again := evaluate_expression(repeated.rstrip(".,"))) is not None:
            numbers.append((again, repeated))
        wrong = [written for number, written in numbers if not is_close(right, number, written)]
        found.append((left.strip(), right, (wrong or [stated])[0].strip().rstrip(".,"), not wrong))
    return found


def is_close(right: Fraction, given: Fraction, written: str) -> bool:
    """Whether a written number is `right` up to its own last decimal place, or to a millionth of its size."""
    decimals = len(written.strip().rstrip(".,").partition(".")[2])
    return abs(right - given) <= max(abs(right) / 1_000_000, Fraction(1, 10**decimals) if decimals else 0)


def format_number(number: Fraction) -> str:
    """A number as people write it."""
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.6g}"


def evaluate_expression(text: str) -> Fraction | None:
    """The value of sums, products and parentheses of decimals and per cents; None where it is anything else.

    There are no powers and no names, and at most 260 characters are read, so that no text can make it work long.
    """
    text = text.translate(SIGNS)
    if len(text) > 260 or text.count("(") > 20:
        return None
    try:
        found, end = _parse_sum(text, 0)
    except (ValueError, ZeroDivisionError):
        return None
    return found if end == len(text) else None


def _parse_sum(text: str, place: int) -> tuple[Fraction, int]:
    total, place = _parse_product(text, place)
    while place < len(text) and text[place] in "+-":
        more, end = _parse_product(text, place + 1)
        total = total + more if text[place] == "+" else total - more
        place = end
    return total, place


def _parse_product(text: str, place: int) -> tuple[Fraction, int]:
    total, place = _parse_factor(text, place)
    while place < len(text) and text[place] in "*/":
        more, end = _parse_factor(text, place + 1)
        total = total * more if text[place] == "*" else total / more
        place = end
    return total, place


def _parse_factor(text: str, place: int) -> tuple[Fraction, int]:
    sign = 1
    while text[place : place + 1] == "-":
        sign = -sign
        place = place + 1
    if text[place : place + 1] == "(":
        found, place = _parse_sum(text, place + 1)
        if text[place : place + 1] != ")":
            raise ValueError("a parenthesis stays open")
        place += 1
    else:
        match = NUMBER.match(text, place)
        if match is None:
            raise ValueError("no number")
        found = Fraction(match[0].replace(",", "").rstrip(".") or "0")
        place = match.end()
    if text[place : place + 1] == "%":
        found = found / 100
        place = place + 1
    return sign * found, place
