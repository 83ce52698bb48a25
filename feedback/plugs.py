"""A class or function of somebody's own, found by its dotted path."""

from __future__ import annotations

import importlib
from typing import Any

from feedback.faults import DataError, format_value


def import_plug(path: str, setting: str, expected: str) -> Any:
    """What stands at a dotted path such as `my_module.my_function`, or `my_module.MyClass.method`.

    Args:
        path: as Python would import it.
        setting: where it was named, for the message.
        expected: what was expected there, for the message.

    Raises:
        DataError: no such module, nothing of that name in it, or a module that cannot be imported itself.
    """
    names = path.split(".")
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise DataError("config", None, setting, format_value(path), expected, "Write it as module.name.")
    for count in range(len(names) - 1, 0, -1):
        module = ".".join(names[:count])
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                continue  # a shorter path may be the module, and the rest names inside it
            got = f"{format_value(path)}, whose module cannot be imported ({error})"
            raise DataError("config", None, setting, got, expected, "Install what it needs.") from error
        for place, name in enumerate(names[count:], count):
            if not hasattr(found, name):
                inside = ".".join(names[:place])
                got = f"{format_value(path)}, and {inside} has no {name}"
                raise DataError("config", None, setting, got, expected)
            found = getattr(found, name)
        return found
    raise DataError(
        "config",
        None,
        setting,
        f"{format_value(path)}, and there is no module {names[0]}",
        expected,
        "A module in the current folder is found when the command starts with PYTHONPATH=. before it.",
    )
