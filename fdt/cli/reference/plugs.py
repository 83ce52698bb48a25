"""Which kinds of plug there are (`kinds.yaml`), and the plugs of each, found in the modules of the three packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

PACKAGES = ("objectives", "feedback", "fdt")
APART = ("fdt.bench", "fdt.cli.plan", "fdt.engines.vllm.worker", "feedback.samples", "fdt.__main__")
"""Modules that hold no plugs: what benches and plans need for themselves, and scripts."""
KINDS = Path(__file__).with_name("kinds.yaml")


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of plug."""

    page: str
    """Page that it stands on."""
    title: str
    """Its heading."""
    about: str
    """What it is for."""
    where: Any
    """A config in which PLUG stands for the plug, and NAME for a name of the user's choice."""
    base: str | None = None
    """Class that its classes inherit from."""
    within: str = ""
    """Only plugs of modules whose dotted name begins so."""
    parameters: tuple[str, ...] = ()
    """What its functions are called with, by name; empty where it has no functions."""
    classes: tuple[str, ...] = ()
    """Its classes where they share no base."""
    settings: bool = False
    """Whether a plug is written without its class, as a mapping of arguments."""
    named: bool = False
    """Whether a plug is written by its attribute `name`."""
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arguments in the example of a plug, by the last part of its path; its own `where`, if it has one."""
    skip: tuple[str, ...] = ()
    """Classes of that base which no config names."""
    given: tuple[str, ...] = ()
    """Arguments that training gives."""


@cache
def read_kinds() -> tuple[Kind, ...]:
    """All kinds, in the order of the pages."""
    content = yaml.safe_load(KINDS.read_text(encoding="utf-8"))
    found = []
    for page, kinds in content.items():
        for entry in kinds:
            lists = {name: tuple(entry[name]) for name in ("parameters", "classes", "skip", "given") if name in entry}
            found.append(Kind(page=page, **{**entry, **lists}))
    return tuple(found)


@cache
def import_modules() -> tuple[ModuleType, ...]:
    """All modules of the three packages, but for those that need a package which is not installed."""
    return tuple(_import_modules())


def _import_modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield root
        for item in pkgutil.walk_packages(root.__path__, f"{package}."):
            if item.name.startswith(APART):
                continue
            try:
                yield importlib.import_module(item.name)
            except ModuleNotFoundError as missing:
                if (missing.name or "").split(".")[0] in PACKAGES:
                    raise


def find_plugs(kind: Kind) -> list[Any]:
    """The plugs of a kind, by name."""
    modules = import_modules()
    found = {import_path(path) for path in kind.classes}
    if kind.base is not None:
        found |= {plug for plug in _list_subclasses(import_path(kind.base)) if is_plug(plug)}
    if kind.parameters:
        for module in modules:
            found |= {plug for plug in vars(module).values() if _is_called_with(plug, kind.parameters)}
    skipped = {import_path(path) for path in kind.skip}
    chosen = [plug for plug in found - skipped if plug.__module__.startswith(kind.within)]
    return sorted(chosen, key=lambda plug: (plug.__name__.lower(), plug.__name__, plug.__module__))


def is_plug(plug: Any) -> bool:
    """Whether a config may name it: public, of this project, and complete."""
    own = plug.__module__.split(".")[0] in PACKAGES and not plug.__module__.startswith(APART)
    return own and not plug.__name__.startswith("_") and not inspect.isabstract(plug)


def _list_subclasses(base: Any) -> Iterator[type]:
    for child in base.__subclasses__():
        yield child
        yield from _list_subclasses(child)


def _is_called_with(plug: Any, parameters: tuple[str, ...]) -> bool:
    if not (inspect.isfunction(plug) or inspect.isclass(plug)) or not is_plug(plug):
        return False
    call = vars(plug).get("__call__") if inspect.isclass(plug) else plug
    if call is None:
        return False
    names = [name for name in inspect.signature(call).parameters if name != "self"]
    return tuple(names) == parameters


def import_path(path: str) -> Any:
    """What stands at a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def get_path(plug: Any) -> str:
    """The shortest dotted path at which a plug can be named."""
    name = plug.__name__
    parts = plug.__module__.split(".")
    for size in range(1, len(parts) + 1):
        module = ".".join(parts[:size])
        if getattr(importlib.import_module(module), name, None) is plug:
            return f"{module}.{name}"
    raise LookupError(f"{plug.__module__}.{name} is not where it says")
