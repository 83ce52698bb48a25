"""From a config to the plugs that it names: functions as graders, and a judge without what training needs besides."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from docstring_parser import DocstringStyle
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from jsonargparse.typing import register_type

from fdt.cli.imports import check_imports
from fdt.errors import UserError
from fdt.resources import parse_yaml, resolve
from feedback.faults import DataError
from feedback.graders import FunctionGrader, Grader, as_grader
from feedback.graders.function import read_function, write_function

PREFIX = "--data.grader"
NOISE = re.compile(
    r"^(Does not validate against any of the Union subtypes|Subtypes: |Errors:$|Given value( type)?: )"
    r"|^Expected a (<class 'NoneType'>|dot import path string)|which is no function$|not correspond to a subclass of"
)
"""Lines of jsonargparse's errors about a union of types that say nothing about the mistake."""


def configure_parsers(explains: bool = True) -> None:
    """Settings of jsonargparse for all commands: help comes from docstrings, and a function's path names a grader.

    A type such as ``FunctionGrader | Grader`` then takes ``my_module.my_function``, alone or as ``class_path``.

    Args:
        explains: whether anyone will read the help. Reading docstrings takes half of the time of building a parser.
    """
    style = DocstringStyle.AUTO if explains else DocstringStyle.GOOGLE  # AUTO tries each style
    set_parsing_settings(docstring_parse_style=style, docstring_parse_attribute_docstrings=explains)
    register_type(
        FunctionGrader,
        serializer=write_function,
        deserializer=read_function,
        type_check=lambda value, kind: isinstance(value, FunctionGrader),
        fail_already_registered=False,
    )


def split_flags(argv: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that set something of the grader."""
    own: list[str] = []
    flags: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith(PREFIX):
            own.append(argument)
        else:
            flags.append(argument if "=" in argument else f"{argument}={next(rest, '')}")
    return own, flags


def load_grader(name: str, flags: list[str]) -> Grader:
    """The grader that a config describes, changed by flags.

    Raises:
        UserError: no such config, none with `data.grader`, or a setting that does not exist or cannot be.
        DataError: a setting that the grader itself refuses.
    """
    path = resolve(name)
    try:
        content: Any = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError("no YAML", got=str(error).splitlines()[0], path=path) from None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or not data.get("grader"):
        raise UserError(
            "no grader",
            expected="a judge under data.grader",
            key="--judge",
            path=path,
            remedy="`fdt configs` lists judges that are shipped.",
        )
    check_imports(data["grader"], str(path))
    configure_parsers()
    parser = ArgumentParser(prog="fdt critique", exit_on_error=False)
    parser.add_argument("--data.grader", type=FunctionGrader | Grader, help="the judge")
    try:
        value = data["grader"]
        given = f"{PREFIX}={value if isinstance(value, str) else json.dumps(value)}"
        return as_grader(parser.instantiate_classes(parser.parse_args([given, *flags])).data.grader)
    except (ArgumentError, TypeError, ValueError, AttributeError, ImportError) as error:
        if isinstance(error, DataError):  # the grader's own message
            raise
        raise UserError(condense_error(str(error)), key="data.grader", path=path) from None


def condense_error(text: str) -> str:
    """An error of jsonargparse on one line, without the types that it tried and that cannot have been meant."""
    lines = (line.strip().removeprefix("- ") for line in text.splitlines())
    kept = (line.removeprefix("Not of type FunctionGrader: ") for line in lines if not NOISE.search(line))
    return " ".join(" ".join(kept).split())
