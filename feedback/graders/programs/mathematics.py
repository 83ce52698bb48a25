"""Are two answers the same mathematics? Asked of math-verify, which parses LaTeX and plain arithmetic and computes."""

from __future__ import annotations

from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

FORMS = (LatexExtractionConfig(), ExprExtractionConfig())


def grade(answer: str, right: str) -> dict[str, Any]:
    """`{"equal": bool, "read": bool}`, where `read` says whether the answer held any mathematics; or
    `{"ungraded": reason}` where the reference holds none."""
    # No time limits of math-verify's own: they would turn a timeout into a wrong answer. The asking process has one.
    gold = _parse_expression(right) or _parse_expression(f"${right}$")
    if not gold:
        return {"ungraded": "no mathematics in the reference"}
    given = _parse_expression(answer)
    equal = bool(given) and verify(gold, given, timeout_seconds=None, raise_on_error=True)
    return {"equal": bool(equal), "read": bool(given)}


def _parse_expression(text: str) -> list[Any]:
    return parse(text, FORMS, fallback_mode="no_fallback", parsing_timeout=None)
