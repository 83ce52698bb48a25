"""Whether a name that a page gives is in the code: settings, plugs, their arguments, metrics, verbs, Python names."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

from fdt.__main__ import VERBS
from fdt.cli.reference.pages import list_entries
from fdt.cli.reference.plugs import PACKAGES, read_kinds
from tests.helpers.paths import ROOT

CODE = re.compile(r"`([^`]+)`")
METRICS = (
    "fdt/metrics",
    "fdt/rollout",
    "fdt/callbacks",
    "fdt/policy",
    "fdt/learner.py",
    "objectives/losses",
    "objectives/objective.py",
)
"""Where metrics get their names."""


def read_tables(path: Path) -> dict[str, list[list[str]]]:
    """The rows of each table of a page, by the heading above it and the table's first column."""
    tables: dict[str, list[list[str]]] = {}
    heading, inside = "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            inside = ""
            continue
        cells = [cell.strip() for cell in re.split(r" \|(?: |$)", line.removeprefix("|"))][:3]
        if not inside:
            inside = f"{heading}: {cells[0]}"
            tables[inside] = []
        elif not set(line) <= set("|- "):
            tables[inside].append(cells)
    return tables


@cache
def list_plugs() -> dict[str, Any]:
    """Every plug by its name."""
    return {entry.name: entry for kind in read_kinds() for entry in list_entries(kind)}


@cache
def list_blocks() -> dict[str, Any]:
    """The settings right under each block of a config."""
    from lightning import Trainer

    from fdt.experience import Experience
    from fdt.learner import Learner

    blocks = {"model": Learner, "data": Experience, "trainer": Trainer}
    return {name: inspect.signature(kind).parameters for name, kind in blocks.items()}


@cache
def list_texts() -> set[str]:
    """The texts that stand in the modules which name metrics; a part that is filled in is a star."""
    found: set[str] = set()
    for place in METRICS:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "*" for part in node.values]
                    found.add("".join(map(str, parts)))
    return found


def is_metric(name: str) -> bool:
    """Whether a metric of that name is logged."""
    from fdt.metrics.diversity import NAMES

    bare = re.sub(r"<\w+>", "*", name.removeprefix("train/"))
    if bare.removeprefix("diversity/") in NAMES:
        return bare.startswith("diversity/")
    return bare in list_texts()


def is_ours(name: str) -> bool:
    """Whether a name is in the code: a setting, a plug, its argument, a metric, a verb, or what one may import."""
    if name.startswith("train/"):
        return is_metric(name)
    if name.startswith("fdt "):
        return name.split()[1] in VERBS
    first, _, rest = name.partition(".")
    if first in list_blocks():
        key, _, inner = rest.partition(".")
        return key in list_blocks()[first] and (not inner or has_field(list_blocks()[first][key].default, inner))
    if first in PACKAGES:
        return can_import(name)
    if first in list_plugs():
        return not rest or rest in {argument.name for argument in list_plugs()[first].arguments}
    return False


def has_field(record: Any, name: str) -> bool:
    """Whether a record has that field."""
    return name in {field.name for field in dataclasses.fields(record)}


def can_import(path: str) -> bool:
    """Whether something stands at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False
