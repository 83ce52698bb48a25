"""Which modules a config may name: ours, those that training is made of, and the operator's own files.

A dotted path in a config is imported, and importing runs code. What lies among the installed packages or in the
standard library (`os.system`, `subprocess.Popen`) is refused unless it is on the list or the operator names it with
`--allow-imports`; a module inside the folder of the very run that names it is refused too, since a run's folder may
be somebody else's.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import site
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from fdt.errors import UserError

FLAG = "--allow-imports"
PURPOSE = (
    "modules, with commas between them, that a config may name though they are neither fdt's nor your own files; "
    "importing one runs its code"
)
"""What the flag is for, on the page of each verb that reads configs."""
VARIABLE = "FDT_ALLOW_IMPORTS"
"""How the flag reaches the other processes of a run."""
ALLOWED = (
    *("fdt", "feedback", "objectives"),
    *("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "torch.optim", "torch.nn"),
)
"""Modules whose classes and functions a config may name, and all below them."""
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
PLAIN = {"str", "int", "float", "bool", "None", "list", "dict", "tuple", "Literal", "Path", "Any", "Sequence"}
"""Annotations under which a text stays a text."""


def take_allowed(argv: Sequence[str]) -> list[str]:
    """The command line without `--allow-imports NAMES`, which is remembered for this process and those it starts."""
    rest: list[str] = []
    pending = False
    for argument in argv:
        if pending or argument.startswith(f"{FLAG}="):
            names = argument.removeprefix(f"{FLAG}=")
            os.environ[VARIABLE] = ",".join(filter(None, [os.environ.get(VARIABLE), names]))
            pending = False
        elif argument == FLAG:
            pending = True
        else:
            rest.append(argument)
    if pending:
        raise UserError(
            "no names", key=FLAG, expected="modules with commas between them, as in my_package,schedulefree"
        )
    return rest


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Puts the flag on a verb's page; it is taken from the command line before any verb reads it."""
    parser.add_argument(FLAG, metavar="NAMES", help=PURPOSE)


def list_annotation_names(annotation: ast.expr | None) -> list[str]:
    """The names in an annotation, as `LoRA` and `dict` in ``dict[str, LoRA] | None``; none without one."""
    return [] if annotation is None else [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]


def is_text(annotation: ast.expr | None) -> bool:
    """Whether an argument of this annotation takes text as text, so that a dotted name in it is not imported."""
    names = set(list_annotation_names(annotation))
    return bool(names) and names <= PLAIN


def is_allowed(path: str, config: str | None) -> bool:
    """Whether a config may name this.

    Args:
        path: a dotted path; one whose first part is no module names nothing and is allowed.
        config: the file that names it.
    """
    extra = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if any(f"{path}.".startswith(f"{name}.") for name in (*ALLOWED, *extra)):
        return True
    top = path.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return False
    spec = PathFinder.find_spec(top, sys.path)
    if spec is None:
        return True
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not any(_is_foreign(place, config) for place in places)


def _is_foreign(place: str, config: str | None) -> bool:
    """Whether a module's file is an installed one, or lies in the folder of the run whose config names it."""
    file = Path(place).resolve()
    if any(file.is_relative_to(folder) for folder in _list_installed()):
        return True
    run = None if config is None else Path(config).resolve().parent
    return run is not None and (run / "checkpoints").is_dir() and (file.is_relative_to(run) or run.is_relative_to(file))


def _list_installed() -> list[Path]:
    paths = sysconfig.get_paths()
    names = [*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), site.getusersitepackages()]
    return [Path(name).resolve() for name in names]


def check_import(value: Any, annotation: ast.expr | None, config: str | None) -> None:
    """
    Args:
        value: what a setting says.
        annotation: of its argument; None where it is not known.
        config: the file that says so; None for the command line, which is the operator's.

    Raises:
        UserError: where it names a module that no config may name.
    """
    if config is None or not isinstance(value, str) or is_text(annotation) or DOTTED.fullmatch(value) is None:
        return
    if not is_allowed(value, config):
        top = value.partition(".")[0]
        raise UserError(
            "a config names code outside fdt",
            got=value,
            path=config,
            expected=f"names of {', '.join(ALLOWED)}, or of your own files",
            remedy=f"Importing runs code. If you know it: {FLAG}={top}",
        )


def check_imports(content: Any, config: str) -> None:
    """`check_import` for every value inside, of arguments that are not known.

    Raises:
        UserError: as `check_import`.
    """
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            check_imports(value, config)
    check_import(content, None, config)
