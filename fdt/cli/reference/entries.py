"""What is said of one plug: its text, its arguments with type, default and help, its sources."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

from docstring_parser import DocstringStyle, parse

from fdt.cli.reference.plugs import PACKAGES, get_path, is_plug

ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")
MISSING = inspect.Parameter.empty
STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Argument:
    """One argument."""

    name: str
    type: str
    default: str | None
    """As YAML; None where it must be given."""
    help: str


@dataclass(frozen=True)
class Entry:
    """One plug."""

    plug: Any
    path: str
    text: str
    arguments: tuple[Argument, ...]
    metrics: str = ""
    """What it logs beside the loss."""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def sources(self) -> list[str]:
        """The arXiv ids in its text, in order; else those that its module names."""
        inside = ARXIV.findall(self.text) or ARXIV.findall(sys.modules[self.plug.__module__].__doc__ or "")
        return list(dict.fromkeys(inside))


def build_entry(plug: Any, given: tuple[str, ...] = ()) -> Entry:
    """The entry of a class or function, without the arguments that training gives."""
    arguments: tuple[Argument, ...] = ()
    metrics = ""
    if inspect.isclass(plug):
        asked = [item for item in inspect.signature(plug).parameters.values() if item.name not in given]
        arguments = tuple(build_argument(plug, item) for item in asked if item.kind not in STARRED)
        metrics = read_metrics(plug)
    return Entry(plug, get_path(plug), read_text(plug), arguments, metrics)


def read_metrics(plug: type) -> str:
    """What the docstring of a term's call says of its metrics; empty elsewhere."""
    calls = (vars(kind).get("__call__") for kind in plug.__mro__)
    text = inspect.getdoc(next(filter(None, calls), None)) or ""
    return text if text.startswith("Metric") else ""


def read_text(plug: Any) -> str:
    """A plug's own docstring; empty where it has none, or only the one that dataclasses make."""
    text = inspect.cleandoc(vars(plug).get("__doc__") or "") if inspect.isclass(plug) else inspect.getdoc(plug) or ""
    return "" if text.startswith(f"{plug.__name__}(") else text


def build_argument(plug: type, parameter: inspect.Parameter) -> Argument:
    """An argument of a class, explained where it is declared: in the class or in one that it inherits from."""
    known = [found for kind in plug.__mro__ if (found := read_declarations(kind).get(parameter.name))]
    written = next((annotation for annotation, _ in known if annotation), "")
    text = next((text for _, text in known if text), "")
    default = None if parameter.default is MISSING else format_value(_get_default(plug, parameter))
    return Argument(parameter.name, format_type(written), default, " ".join(text.split()))


def _get_default(plug: type, parameter: inspect.Parameter) -> Any:
    made = getattr(plug, "__dataclass_fields__", {}).get(parameter.name)
    if made is not None and made.default_factory is not dataclasses.MISSING:
        return made.default_factory()
    return parameter.default


@cache
def read_declarations(kind: type) -> dict[str, tuple[str, str]]:
    """Annotation and help of each argument that a class itself declares, as fields or in its constructor."""
    if kind.__module__.split(".")[0] not in PACKAGES:
        return {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = (ast.unparse(node.annotation), _read_string(after))
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found |= _read_constructor(node, ast.get_docstring(tree) or "")
    return found


def _read_string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _read_constructor(node: ast.FunctionDef, of_class: str) -> dict[str, tuple[str, str]]:
    # The parser wants a line before the arguments.
    texts = [parse(f"-\n\n{text}", DocstringStyle.GOOGLE) for text in (ast.get_docstring(node) or "", of_class)]
    helps = {item.arg_name: item.description or "" for text in reversed(texts) for item in text.params}
    return {
        item.arg: (ast.unparse(item.annotation) if item.annotation else "", helps.get(item.arg, ""))
        for item in (*node.args.args[1:], *node.args.kwonlyargs)
    }


def format_type(annotation: str) -> str:
    """An annotation as a reader of YAML knows it."""
    text = re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace(", ", " | "), annotation)
    text = re.sub(r"\bClassVar\[(.*)\]$", r"\1", text)
    text = re.sub(r"\bNone\b", "null", text)
    return re.sub(r"Callable\b(\[.*\])?", "function", text).replace("'", '"')


def format_value(value: Any) -> str:
    """A default as one would write it in YAML; a plug by its path, with the arguments that are not its defaults."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w./:<>= -]+", value) else f'"{value}"'.replace("\n", "\\n")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | frozenset | set):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if inspect.isfunction(value) or inspect.isclass(value):
        return get_path(value) if is_plug(value) else value.__name__
    if is_plug(type(value)):
        return f"{get_path(type(value))}({', '.join(_list_changes(value))})".removesuffix("()")
    return str(value)


def _list_changes(value: Any) -> list[str]:
    changed = []
    for item in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        if item.init and getattr(value, item.name) != default:
            changed.append(f"{item.name}: {format_value(getattr(value, item.name))}")
    return changed
