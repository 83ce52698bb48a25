"""The house rules that a machine can hold: who imports whom, how long things are, and what never appears."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.imports import find_circles, find_imports, list_modules, name_module, read_graph
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
SCRIPTS = {"feedback/readers/hub.py": {"datasets"}}  # imports it inside a function
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
    assert len(source.splitlines()) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert length(node) <= 40, f"{node.name} is longer than 40 lines"


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


LAYERS = (
    "errors", "options", "processes", "checkpoint_files", "distributed", "statistics", "resources", "data", "report",
    "guards", "policy", "embeddings", "environments", "metrics", "engines", "reward_models", "learner", "rollout",
    "evaluation", "experience", "loggers", "callbacks", "cli", "bench",
)  # fmt: skip
"""The floors of fdt/, from the ground up; docs/design.md says what each is for."""
PLUG_FOLDERS = {"feedback/graders", "feedback/readers/formats", "fdt/environments"}
"""Folders that hold one plug a file, and so grow with what fdt can do."""


def place_of(module: str) -> int | None:
    """The floor of a module of fdt/; None for the package itself and its entry point, which stand above all."""
    parts = module.split(".")
    return LAYERS.index(parts[1]) if parts[0] == "fdt" and len(parts) > 1 and parts[1] != "__main__" else None


def find_upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that lead to a higher floor, one line each."""
    found = []
    for module, others in sorted(graph.items()):
        for other in sorted(others):
            above, own = place_of(other), place_of(module)
            if None not in (above, own) and above > own:
                found.append(f"{module} imports {other}")
    return found


def test_layers_import_only_what_lies_below():
    assert not find_upward(read_graph())
    entry = {"fdt", "fdt.__main__"}
    assert not [name for name, others in read_graph().items() if "fdt.__main__" in others and name not in entry]


def test_no_import_circles():
    assert not find_circles(read_graph())


def test_the_checks_of_imports_see_what_they_forbid():
    modules = list_modules()
    lazy = "def f():\n    from fdt.cli.run import lightning_cli\n"
    typed = "if TYPE_CHECKING:\n    from fdt.rollout.sources import Replay\n"
    assert find_imports(lazy, modules) == {"fdt.cli.run.lightning_cli"}
    assert find_upward({"fdt.policy.policy": find_imports(lazy, modules) | find_imports(typed, modules)}) == [
        "fdt.policy.policy imports fdt.cli.run.lightning_cli",
        "fdt.policy.policy imports fdt.rollout.sources",
    ]
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert find_circles({"a": {"a"}}) == [["a"]]


def test_folders_hold_at_most_twelve_modules():
    crowds = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES if path.name != "__init__.py")
    assert not {folder: size for folder, size in crowds.items() if size > 12 and folder not in PLUG_FOLDERS}


def test_tests_mirror_the_packages():
    packages = {path.parent.relative_to(ROOT).as_posix() for path in MODULES}
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert not folders - packages - {".", "benchmarks"}


def test_modules_are_named_as_their_files():
    assert name_module(ROOT / "fdt" / "data" / "batch.py") == "fdt.data.batch"
    assert name_module(ROOT / "fdt" / "__init__.py") == "fdt"


GUESSES = {
    "fdt/rollout/sources.py": "class OnPolicy",
    "fdt/rollout/advantages.py": "def compute_advantages",
    "objectives/losses/policy_gradient.py": "class PolicyGradient",
    "fdt/data/tokenization.py": "def tokenize_prompt",
    "fdt/policy/forward.py": "def build_hidden_fn",
    "fdt/policy/fsdp.py": "class FSDP2",
    "fdt/policy/log_probs.py": "def compute_batch_log_probs",
    "fdt/evaluation/pass_at_k.py": "class PassAtK",
    "fdt/policy/hub.py": "def resolve_model",
    "objectives/losses/reference_kl.py": "class ReferenceKL",
    "fdt/data/splits.py": "class DataSplits",
    "fdt/engines/vllm/weight_sync.py": "class WeightSync",
    "fdt/callbacks/checkpoint.py": "class Checkpoint",
    "fdt/policy/lora.py": "class LoRA",
    "fdt/metrics/step.py": "class StepMetrics",
}
"""The file that a stranger would open first for each of fifteen questions, and what must be found there."""


@pytest.mark.parametrize("path", GUESSES)
def test_what_one_looks_for_is_where_one_looks(path):
    assert f"\n{GUESSES[path]}" in (ROOT / path).read_text(encoding="utf-8")
    assert f"`{path}`" in (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
