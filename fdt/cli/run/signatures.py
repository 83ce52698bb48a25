"""What a class or function takes, read from its source file: nothing is imported, so that no check waits for torch."""

from __future__ import annotations

import ast
import difflib
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

FOLLOWED = 10
"""Re-exports and base classes that are followed, one after another."""

DOORS = (
    "objectives",
    "feedback.graders",
    "feedback.hints",
    "feedback.rewriter",
    "feedback.readers",
    "fdt.callbacks",
    "fdt.engines",
    "fdt.evaluation",
    "fdt.guards",
    "fdt.policy.lora",
    "fdt.policy.optimizers",
    "fdt.policy.teachers",
    "fdt.reward_models",
    *(f"fdt.rollout.{name}" for name in ("curricula", "memory", "sources")),
)
"""Modules whose names are offered where a class path leads nowhere."""
LIBRARIES = (
    *(f"lightning.pytorch.{name}" for name in ("callbacks", "loggers", "strategies", "plugins", "profilers")),
    *("torch.optim", "torch.optim.lr_scheduler"),
)
"""Modules whose classes a config may name by their short names as well."""
UNUSED = ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
WORDS: dict[str, tuple[str, ...]] = {
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu"),
    "trainer.strategy": (
        *("auto", "fsdp", "fsdp_cpu_offload", "deepspeed"),
        *("single_device", "single_xla", "single_tpu", "xla", "xla_debug"),
        *(f"ddp{kind}{end}" for kind in ("", "_spawn", "_fork", "_notebook") for end in UNUSED),
        *(f"deepspeed_stage_{stage}" for stage in ("1", "2", "2_offload", "3", "3_offload", "3_offload_nvme")),
    ),
    "trainer.precision": (
        *("32", "32-true", "64", "64-true", "16", "16-true", "16-mixed", "bf16", "bf16-true", "bf16-mixed"),
        *("transformer-engine", "transformer-engine-float16"),
    ),
    "trainer.profiler": ("simple", "advanced", "pytorch", "xla"),
}
"""Words that Lightning takes for a setting. It may know more, so that only what is nearly one of them is refused."""
NEAR = 0.75
"""How like another a short name must be to be taken for it."""
NEAR_CLASS = 0.6
"""The same, where it can be nothing but a class."""


@dataclass(frozen=True)
class Signature:
    """Names of the parameters, each with its annotation as written.

    `is_open`: there may be more, as with ``**kwargs`` or a base class that could not be read. `module` is where
    annotations and defaults find their names. `defaults`: those that are written in a `def`.
    """

    parameters: dict[str, ast.expr | None]
    is_open: bool
    module: str
    defaults: dict[str, ast.expr] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A class or function in its module; None as `node` where the name is there but is neither."""

    node: ast.ClassDef | ast.FunctionDef | None
    module: str


@dataclass
class Module:
    """The names of a source file: what it defines, what it imports from where, and what else is assigned."""

    definitions: dict[str, ast.ClassDef | ast.FunctionDef] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    is_open: bool = False


@cache
def find_module_file(name: str) -> Path | None:
    """The file of a module, by its dotted name; None where there is none or it is not written in Python."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, sys.path)
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") and not rest else None
    for root in spec.submodule_search_locations:
        path = Path(root, *rest)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


@cache
def read_module(name: str) -> Module | None:
    """The names of a module; None where its source cannot be read."""
    path = find_module_file(name)
    if path is None:
        return None
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, OSError):
        return None
    found = Module()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in list_statements(tree.body):
        add_names(found, node, package)
    return found


def list_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module, with those under its `if` and `try`."""
    found: list[ast.stmt] = []
    for node in body:
        found.append(node)
        if isinstance(node, ast.If | ast.Try):
            found += list_statements([*node.body, *node.orelse])
    return found


def add_names(module: Module, node: ast.stmt, package: str) -> None:
    """Adds what one statement names; `package` is what relative imports start from."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        module.definitions[node.name] = node
        module.is_open |= node.name == "__getattr__"
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        parts = package.split(".")
        source = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
        source = source if node.level else node.module or ""
        for alias in node.names:
            module.is_open |= alias.name == "*"
            module.imports[alias.asname or alias.name] = f"{source}.{alias.name}"
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        module.others |= {target.id for target in targets if isinstance(target, ast.Name)}


def find_definition(path: str, depth: int = FOLLOWED) -> Definition | None:
    """Where a dotted path leads, through re-exports.

    Returns:
        None where it leads nowhere that can be read; a definition without a node where a name is there, but is not
        defined by `class` or `def`.
    """
    module_name, _, name = path.rpartition(".")
    module = read_module(module_name) if module_name else None
    if module is None or depth == 0:
        return None
    if name in module.definitions:
        return Definition(module.definitions[name], module_name)
    if name in module.imports:
        return find_definition(module.imports[name], depth - 1) or Definition(None, module_name)
    if name in module.others or module.is_open or find_module_file(path):
        return Definition(None, module_name)
    return None


def list_names(module_name: str) -> list[str]:
    """The public names of a module: of a package those that it passes on too."""
    module = read_module(module_name)
    path = find_module_file(module_name)
    names = [] if module is None else [*module.definitions, *module.others]
    if module is not None and path is not None and path.name == "__init__.py":
        names += module.imports
    return sorted(name for name in names if not name.startswith("_"))


@cache
def list_short_names() -> dict[str, str]:
    """The classes and functions that a config may name without their module, with their dotted paths."""
    return {name: f"{door}.{name}" for door in (*LIBRARIES, *reversed(DOORS)) for name in list_names(door)}


def find_near_class(name: str, certain: bool = False) -> str | None:
    """The dotted path of the class that a misspelt short name is likeliest meant to be; None for one that is like
    none."""
    known = {path.rpartition(".")[2]: path for path in list_environments()} | list_short_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR_CLASS if certain else NEAR)
    return known[near[0]] if near else None


def find_near_word(setting: str, value: Any) -> str | None:
    """The word that a misspelt value of a setting is likeliest meant to be; None where it is one, or like none."""
    known = WORDS.get(setting, ())
    near = difflib.get_close_matches(value, known, n=1, cutoff=NEAR) if isinstance(value, str) else []
    return near[0] if near and value not in known else None


@cache
def list_environments() -> list[str]:
    """The environments by their dotted paths; each lives in a module of its own."""
    package = find_module_file("fdt.environments")
    stems = [] if package is None else sorted(path.stem for path in package.parent.glob("[a-z]*.py"))
    modules = [f"fdt.environments.{stem}" for stem in stems]
    return [f"{module}.{name}" for module in modules for name in list_names(module) if name[:1].isupper()]


def has_module(name: str) -> bool:
    """Whether the first part of a dotted name is a module that Python would find, in whatever language."""
    return PathFinder.find_spec(name.partition(".")[0], sys.path) is not None


@cache
def read_signature(path: str, depth: int = FOLLOWED) -> Signature | None:
    """The parameters of a class or function by its dotted path; None where they cannot be known."""
    definition = find_definition(path)
    if definition is None or definition.node is None or depth == 0:
        return None
    node = definition.node
    if isinstance(node, ast.FunctionDef):
        return read_arguments(node, definition.module, skip=0)
    own = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if own is not None:
        return read_arguments(own, definition.module, skip=1)
    fields, defaults = read_fields(node) if is_dataclass(node) else ({}, {})
    for base in reversed(node.bases):
        inherited = read_base(base, definition.module, depth)
        if inherited is None:
            return Signature(fields, True, definition.module, defaults)
        fields, defaults = inherited.parameters | fields, inherited.defaults | defaults
    return Signature(fields, False, definition.module, defaults)


def read_plug(path: str) -> Signature | None:
    """What a class takes that a config names, by its dotted path or by its name alone; None where unknown."""
    full = path if "." in path else list_short_names().get(path)
    return None if full is None else read_signature(full)


PLAIN_BASES = {"ABC", "Protocol", "object", "Generic"}


def read_base(base: ast.expr, module: str, depth: int) -> Signature | None:
    """The parameters that a base class brings; None where unknown."""
    name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
    if name in PLAIN_BASES:
        return Signature({}, False, module)
    found = read_signature(f"{module}.{name}", depth - 1) if "." not in name else None
    return None if found is None or found.is_open else found


def read_arguments(node: ast.FunctionDef, module: str, skip: int) -> Signature:
    """The arguments of a `def`, without its first `skip`; one that takes any is open."""
    positional = [*node.args.posonlyargs, *node.args.args]
    found = positional[skip:] + node.args.kwonlyargs
    defaults = list(zip(reversed(positional), reversed(node.args.defaults), strict=False))
    defaults += [(arg, value) for arg, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value]
    return Signature(
        {each.arg: each.annotation for each in found},
        node.args.kwarg is not None,
        module,
        {arg.arg: value for arg, value in defaults},
    )


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether `@dataclass` makes its `__init__`."""
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def read_fields(node: ast.ClassDef) -> tuple[dict[str, ast.expr | None], dict[str, ast.expr]]:
    """The fields that a dataclass declares itself and sets when it is made, and their defaults."""
    found: dict[str, ast.expr | None] = {}
    defaults: dict[str, ast.expr] = {}
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            made = "init=False" not in ast.unparse(each.value) if each.value is not None else True
            if made and "ClassVar" not in ast.unparse(each.annotation):
                found[each.target.id] = each.annotation
                if each.value is not None:
                    defaults[each.target.id] = each.value
    return found, defaults
