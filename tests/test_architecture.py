"""The house rules that a machine can hold: who imports whom, how long things are, and what never appears."""

import ast
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

MODULES = [path for package in ("feedback", "objectives", "fdt") for path in sorted((ROOT / package).rglob("*.py"))]
FORBIDDEN = {
    "feedback": {
        "torch",
        "lightning",
        "pytorch_lightning",
        "transformers",
        "datasets",
        "trl",
        "peft",
        "objectives",
        "fdt",
    },
    "objectives": {"feedback", "fdt", "transformers", "lightning", "pytorch_lightning", "trl", "peft", "datasets"},
    "fdt": set(),
}
SCRIPTS = {
    "feedback/samples/record_sums.py": {"torch", "transformers"},  # run by hand
    "feedback/readers/hub.py": {"datasets"},
}  # both import them inside a function
NEVER_CALLED = {"eval", "exec", "compile", "__import__"}
NEVER_IMPORTED = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal"}
NEVER_SET = {"shell": True, "trust_remote_code": True, "weights_only": False}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of all imports of a module, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def refused(tree: ast.AST) -> list[str]:
    """What must not be in source: evaluation of text, pickles, shells, remote code, unsafe loading."""
    named_errors = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and [alias.name for alias in node.names] == ["UnpicklingError"]
    ]  # to catch it loads nothing
    others = ast.Module(
        [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node not in named_errors],
        [],
    )
    found = [f"import {name}" for name in imported(others) & NEVER_IMPORTED]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in NEVER_CALLED:
                found.append(f"{node.func.id}() in line {node.lineno}")
            found += [
                f"{word.arg}={word.value.value} in line {node.lineno}"
                for word in node.keywords
                if word.arg in NEVER_SET
                and isinstance(word.value, ast.Constant)
                and word.value.value is NEVER_SET[word.arg]
            ]
    return found


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which is where `--help` takes its text from."""
    words = node.body[0] if ast.get_docstring(node) else None
    return node.end_lineno - node.lineno + 1 - (words.end_lineno - words.lineno + 1 if words else 0)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_module(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    banned = FORBIDDEN[path.relative_to(ROOT).parts[0]] - SCRIPTS.get(named(path), set())
    assert not imported(tree) & banned
    assert not refused(tree)
    assert len(source.splitlines()) <= 200
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert length(node) <= 40, f"{node.name} is longer than 40 lines"
            given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            asked = [arg for arg in given if arg.arg not in ("self", "cls")]
            # a constructor's arguments are the fields of a config
            assert len(asked) <= 6 or node.name == "__init__", f"{node.name} takes more than 6 arguments"


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_import_heavy_libraries_inside_functions(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not imported(top) & SCRIPTS[path]


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import pickle",
        "from pickle import loads",
        "run(x, shell=True)",
        "load(p, trust_remote_code=True)",
        "torch.load(p, weights_only=False)",
    ],
)
def test_the_check_sees_what_it_forbids(source):
    assert refused(ast.parse(source))


def test_packages_are_where_the_check_looks():
    assert {named(path).split("/")[0] for path in MODULES} == {"feedback", "objectives", "fdt"}
