"""Every regular expression in the packages is found in the source and fed text that is made to be slow for it.

The work is compared with that for half the text: a linear expression takes about twice as long for twice as much.
"""

import ast
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT

PACKAGES = ("feedback", "objectives", "fdt")
CALLS = {"compile", "search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split"}
SIZES = (3_750, 7_500, 15_000, 30_000)
UNNOTICED = 0.02  # what 30,000 characters may cost in any case [s]
MOST = 3  # times the work for half the text: linear work takes 2 times as much, that of the square 4
LOCAL: dict[str, dict[str, Any]] = {
    "feedback/rewriter.py": {"word": "feedback"},
    "feedback/graders/extract.py": {"tag": "answer"},
    "feedback/graders/format.py": {"tag": "answer", "tags": ["think", "answer"]},
    "feedback/hints/templates.py": {"NAMES": ("critique", "revision")},
    "fdt/evaluation/underthinking.py": {"start": "alternatively|wait"},
    "fdt/data/chat/control_tokens.py": {
        "strings": {"<|im_start|>", "<|im_end|>"},
        "markers": {"[/INST]"},
        "sort_by_length": lambda strings: sorted(strings, key=len, reverse=True),
    },
    "fdt/data/tokenization.py": {"own": {"<think>", "</think>"}, "sort_by_length": sorted},
}
"""Names inside functions and of other modules that patterns are made of, with values of the kind that they have."""


@dataclass(frozen=True)
class Expression:
    """One call of `re`: the pattern, and how it is asked."""

    place: str
    pattern: re.Pattern[str]
    anchored: bool

    def run(self, text: str) -> None:
        if self.anchored:
            self.pattern.fullmatch(text)
            self.pattern.match(text)
        else:
            for _ in self.pattern.finditer(text):
                pass


def evaluate(node: ast.AST, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "<pattern>", "eval"), {"re": re, **names})


def read_constants(tree: ast.Module, names: dict[str, Any]) -> dict[str, Any]:
    """What can be computed of a module's constants without importing it."""
    known = dict(names)
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id not in names:
                try:
                    known[target.id] = evaluate(node.value, known)
                except Exception:
                    continue
    return known


def find_expressions() -> Iterator[Expression]:
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(ROOT).as_posix()
        names = read_constants(tree, LOCAL.get(place, {}))
        uses = {  # how each compiled pattern is asked
            (node.func.value.id, node.func.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if isinstance(node.func.value, ast.Name) and node.func.attr in CALLS
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and is_call(node.value):
                name = node.targets[0].id
                asked = {attribute for owner, attribute in uses if owner == name}
                anchored = bool(asked) and asked <= {"match", "fullmatch"}
            elif isinstance(node, ast.Call) and is_call(node) and node.func.attr != "compile":
                name = str(node.lineno)
                anchored = node.func.attr in ("match", "fullmatch")
            else:
                continue
            call = node.value if isinstance(node, ast.Assign) else node
            yield Expression(f"{place}:{name}", build_pattern(call, names), anchored)


def is_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in CALLS
    )


def build_pattern(call: Any, names: dict[str, Any]) -> re.Pattern[str]:
    nodes = [keyword.value for keyword in call.keywords if keyword.arg == "flags"]
    place = {"sub": 4, "subn": 4, "split": 3, "compile": 1}.get(call.func.attr, 2)
    nodes += call.args[place : place + 1]
    flags = evaluate(nodes[0], names) if nodes else 0
    pattern = evaluate(call.args[0], names)
    return pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, flags)


def build_attacks(pattern: str) -> list[str]:
    """Units to repeat: single characters of all classes, words and marks of the pattern, and pairs of those."""
    literal = re.sub(r"\\[nrt]", "\n", re.sub(r"\(\?[a-zA-Z<!=:P]+|\[[^\]]*\]|\{\d*,?\d*\}", " ", pattern))
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\[^\w\s]|[\w`<>/:=\n#])+", literal)]
    words = [re.sub(r"\\[a-zA-Z]", "", word)[:30] for word in words]
    words = list(dict.fromkeys(word for word in words if word.strip()))[:12]
    marks = list(" \n\taA1-+,.*$<>|[]{}()\"'`=:;/_#%!") + ["１", "｜", "“"]
    units = [*marks, *words, "1,", "1.", "a ", " \n", "\n\n", "1-", "1 ", "$1", "-1", "[{", "\\"]
    units += [word + mark for word in words[:6] for mark in (" ", "\n", ":", "1", "=", ">", "<")]
    return list(dict.fromkeys(units))


def build_texts(pattern: str) -> Iterator[tuple[str, Any]]:
    """Named functions from a size to a text: a unit repeated, alone, before what cannot match, and behind each word."""
    units = build_attacks(pattern)
    words = [unit for unit in units if len(unit) > 2][:6]
    for unit in units:
        yield repr(unit), partial(repeat, "", unit, "")
        for end in ("\x00!", "1x}"):
            yield f"{unit!r} and {end!r}", partial(repeat, "", unit, end)
    for word in words:
        for unit in units[:36]:
            yield f"{unit!r} behind {word!r}", partial(repeat, word, unit, "\x00!")


def repeat(head: str, unit: str, tail: str, size: int) -> str:
    return head + unit * (size // len(unit)) + tail


def measure(expression: Expression, text: str) -> float:
    start = time.process_time()
    expression.run(text)
    return time.process_time() - start


def find_excess(expression: Expression) -> str | None:
    """The first text for which the work grows faster than its length, or None.

    Texts that are quick at the smallest size cannot be slow at the largest, even if the work grew with the square; the
    slowest of them are run at the largest all the same.
    """
    taken = []
    for name, build in build_texts(expression.pattern.pattern):
        taken.append((measure(expression, build(SIZES[0])), name, build))
        if taken[-1][0] * (SIZES[-1] / SIZES[0]) ** 2 > UNNOTICED and (fault := compare(expression, name, build)):
            return fault
    slowest = sorted(taken, key=lambda found: found[0])[-3:]
    return next((fault for _, name, build in slowest if (fault := compare(expression, name, build))), None)


def compare(expression: Expression, name: str, build: Callable[[int], str]) -> str | None:
    """What is wrong where twice the text takes more than `MOST` times the work."""
    before = measure(expression, build(SIZES[0]))
    for size in SIZES[1:]:
        now = measure(expression, build(size))
        if now > UNNOTICED and now > MOST * before:
            pairs = [(measure(expression, build(size // 2)), measure(expression, build(size))) for _ in range(7)]
            before, now = (min(taken) for taken in zip(*pairs, strict=True))  # by turns, since the machine may be busy
            if now > UNNOTICED and now > MOST * before:
                return f"{name}: {before:.3f} s for {size // 2:,} characters, {now:.3f} s for {size:,}"
        before = now
    return None


EXPRESSIONS = list(find_expressions())


def test_every_expression_is_found():
    assert len(EXPRESSIONS) > 60
    assert Path(ROOT / "feedback/graders/number.py").exists()
    assert any(expression.place.startswith("feedback/graders/number.py") for expression in EXPRESSIONS)


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.place)
def test_the_work_grows_with_the_text(expression):
    assert find_excess(expression) is None, expression.pattern.pattern


def test_a_quadratic_expression_is_noticed():
    for slow in (r"\s*:", r"```tool\s*\n(.*?)```"):
        assert find_excess(Expression("here", re.compile(slow, re.DOTALL), False)), slow
