"""reasoning-gym's own scorers, except those that compute with an answer as code."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import lru_cache
from typing import Any

import reasoning_gym.factory as factory
from reasoning_gym.dataset import ProceduralDataset

RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "parse_expr",
    "sympify",
    "run",
    "Popen",
    "system",
}
"""Calls that run text, or parse it by running it: sympy's parsers do."""


def grade(dataset: str, answer: str, entry: dict[str, Any]) -> dict[str, Any]:
    """`{"score": number}` as the data set's scorer gives it, or `{"ungraded": reason}`."""
    if dataset not in factory.DATASETS:
        return {"ungraded": f"reasoning-gym has no data set {dataset!r}"}
    calls = sorted(find_code_calls(factory.DATASETS[dataset][0]))
    if calls:
        return {"ungraded": f"the scorer of {dataset!r} may run an answer as code ({', '.join(calls)})"}
    return {"score": float(_get_scorer(dataset)(answer, entry))}


@lru_cache(maxsize=64)
def _get_scorer(dataset: str) -> Any:
    return factory.get_score_answer_fn(dataset)


@lru_cache(maxsize=256)
def find_code_calls(kind: type) -> frozenset[str]:
    """Names of calls in a data set's scorer, and in what it calls of its own module, that may run text as code.

    A scorer that is not the base class's and whose module imports sympy counts too: its objects parse text unasked.
    """
    home = next(owner for owner in kind.__mro__ if "score_answer" in vars(owner))
    if home is ProceduralDataset:
        return frozenset()
    tree = ast.parse(inspect.getsource(sys.modules[home.__module__]))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    waiting = ["score_answer"]
    seen = set()
    found = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        used = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(functions[name])}
        waiting += used
        found |= used & (RUNS_CODE - set(functions))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return frozenset(found | {"sympy" for node in imports if "sympy" in ast.dump(node)})
