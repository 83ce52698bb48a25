"""A calculator: arithmetic read as a syntax tree and walked, never evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
DIGITS = 300
"""Most decimal places, before the point or behind it, that `round` may be asked for: more than any float has."""


def round_number(value: float, digits: int = 0) -> float:
    """Python's `round`, which for an integer computes 10 to the number of places, bounded by nothing."""
    if not -DIGITS <= digits <= DIGITS:
        raise ValueError(f"more than {DIGITS} places")
    return round(value, digits) if digits else round(value)


UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "round": round_number,
    "min": min,
    "max": max,
    "sqrt": math.sqrt,
    "gcd": math.gcd,
    "floor": math.floor,
    "ceil": math.ceil,
}
LONGEST = 500
"""Most characters of an expression."""
BITS = 4096
"""Most bits of an integer on the way."""


def evaluate_expression(text: str) -> str:
    """The value of an expression of numbers, + - * / // % **, brackets and a few functions.

    Raises:
        ValueError: where it is no such expression, or too large, with what is wrong.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    try:
        value = _evaluate_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ArithmeticError, TypeError, RecursionError, MemoryError) as fault:
        raise ValueError(str(fault) or type(fault).__name__) from fault
    return str(value)


def _evaluate_node(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _check_size(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return UNARY[type(node.op)](_evaluate_node(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left = _evaluate_node(node.left)
        right = _evaluate_node(node.right)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right)
        return _check_size(BINARY[type(node.op)](left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS and not node.keywords:
        return _check_size(CALLS[node.func.id](*map(_evaluate_node, node.args)))
    raise ValueError(f"not arithmetic: {ast.unparse(node)[:60]}")


def _check_power(base: Any, exponent: Any) -> None:
    # Asked before, since the power itself may take for ever.
    if isinstance(base, int) and isinstance(exponent, int) and abs(base).bit_length() * abs(exponent) > BITS:
        raise ValueError(f"more than {BITS} bits")


def _check_size(value: Any) -> Any:
    if isinstance(value, complex) or (isinstance(value, int) and value.bit_length() > BITS):
        raise ValueError("complex" if isinstance(value, complex) else f"more than {BITS} bits")
    return value
