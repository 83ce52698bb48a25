"""The command line of a run as typed: its config files, its options, and the order in which they count."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fdt.errors import UserError
from fdt.resources import parse_yaml

CONFIG_FLAGS = ("-c", "--config")
HELP_FLAGS = ("-h", "--help")
TRAINER_DEFAULTS = {
    # Every validation before the first step measures the base; inference_mode would break FSDP2's gathers.
    "num_sanity_val_steps": -1,
    "inference_mode": False,
    "log_every_n_steps": 1,
    "use_distributed_sampler": False,
    "default_root_dir": "runs/fdt",
    "max_epochs": 1,
}
"""Settings of Lightning's Trainer that start from another value here."""


def list_config_files(argv: Sequence[str]) -> list[str]:
    """The config files named on a command line, in order."""
    found = []
    for place, argument in enumerate(argv):
        if argument in CONFIG_FLAGS and place + 1 < len(argv):
            found.append(argv[place + 1])
        elif argument.startswith("--config="):
            found.append(argument.removeprefix("--config="))
    return found


def list_flags(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Every ``--name=value`` and ``--name value`` but config files; an option that stands alone has an empty value."""
    found = []
    for argument, following in pairwise([*argv, "--"]):
        name, joined, value = argument.partition("=")
        if not name.startswith("--") or name in ("--", *CONFIG_FLAGS):
            continue
        if joined:
            found.append((name, value))
        else:
            found.append((name, "" if following.startswith("--") else following))
    return found


def put_configs_first(argv: Sequence[str]) -> list[str]:
    """The same command with its config files, in their order, before its options: an option wins over every file."""
    verb, *rest = argv
    files = [argument for path in list_config_files(rest) for argument in ("-c", path)]
    return [verb, *files, *drop_flags(rest, CONFIG_FLAGS)]


def drop_flags(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """The command without these options and their values."""
    kept: list[str] = []
    skip = False
    for argument in argv:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif argument.split("=")[0] not in names:
            kept.append(argument)
    return kept


def load_yaml(path: str) -> dict[str, Any]:
    """One YAML file.

    Raises:
        UserError: where it is not YAML, with line and column, or not a mapping.
    """
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise UserError(" ".join(str(fault).split()), path=path) from fault
    if content is not None and not isinstance(content, dict):
        raise UserError("config", got=type(content).__name__, expected="a mapping of settings", path=path)
    return content or {}


def read_value(text: str) -> Any:
    """An option's value as YAML reads it; the text itself where it is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
