"""From a config's `data.critic` to the critic, without what training needs besides."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from fdt.errors import UserError
from fdt.resources import resolve
from feedback.faults import DataFault
from feedback.graders import Critic

PREFIX = "--data.critic"


def split_flags(argv: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that set something of the critic."""
    own: list[str] = []
    flags: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if not argument.startswith(PREFIX):
            own.append(argument)
        else:
            flags.append(argument if "=" in argument else f"{argument}={next(rest, '')}")
    return own, flags


def judge_from(name: str, flags: list[str]) -> Critic:
    """The critic that a config describes, changed by flags.

    Raises:
        UserError: no such config, none with `data.critic`, or a setting that does not exist or cannot be.
        DataFault: a setting that the critic itself refuses.
    """
    path = resolve(name)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError("no YAML", got=str(error).splitlines()[0], path=path) from None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or not data.get("critic"):
        raise UserError(
            "no critic",
            expected="a judge under data.critic",
            key="--judge",
            path=path,
            remedy="`fdt configs` lists judges that are shipped.",
        )
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="fdt critique", exit_on_error=False)
    parser.add_argument("--data.critic", type=Critic, help="the judge")
    try:
        parser.set_defaults({"data.critic": data["critic"]})
        return parser.instantiate_classes(parser.parse_args(flags)).data.critic
    except (ArgumentError, TypeError, ValueError, AttributeError, ImportError) as error:
        if isinstance(error, DataFault):  # the critic's own words
            raise
        raise UserError(" ".join(str(error).split()), key="data.critic", path=path) from None
