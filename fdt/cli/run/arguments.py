"""The command line of a run as typed: its config files, its options, and the order in which they count."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fdt.errors import UserError
from fdt.resources import list_configs, parse_yaml

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
    """The config files named on a command line, in order.

    Raises:
        UserError: where the last word should name one.
    """
    if argv and argv[-1] in CONFIG_FLAGS:
        raise UserError("an option without its value", got=argv[-1], expected=f"{argv[-1]} CONFIG")
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


def check_words(argv: Sequence[str]) -> None:
    """
    Raises:
        UserError: for a word that belongs to no option, and an option that lacks its value.
    """
    awaiting = ""
    values: list[str] = []
    for word in [*argv[1:], "--"]:
        if not word.startswith("-") or _is_number(word):
            if awaiting:
                values.append(word)
                continue
            raise UserError(
                "a word that belongs to no option",
                got=word,
                expected="--OPTION VALUE, or -c CONFIG",
                remedy=f"Did you mean -c {word}?" if word in list_configs() else None,
            )
        if awaiting and not values:
            dashed = word if word.startswith("-") and not word.startswith("--") and word != "-c" else None
            remedy = f"a value that begins with - is joined to its option: {awaiting}='{dashed}'" if dashed else None
            raise UserError("an option without its value", got=awaiting, expected=f"{awaiting} VALUE", remedy=remedy)
        if len(values) > 1:
            raise UserError(
                "several words behind one option",
                got=" ".join([awaiting, *values]),
                expected="one",
                remedy=f"write a list as {awaiting} '[{', '.join(values)}]'",
            )
        values = []
        alone = "=" in word or word.startswith("--print_config") or (word.startswith("-c") and word != "-c")
        awaiting = "" if alone or word == "--" else word


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
    """One YAML file, which is parsed once however many checks read it.

    Raises:
        UserError: where it is not YAML, with line and column, or not a mapping.
    """
    facts = Path(path).stat()
    return deepcopy(_load_yaml(path, (facts.st_mtime_ns, facts.st_size)))


@lru_cache(maxsize=32)
def _load_yaml(path: str, state: tuple[int, int]) -> dict[str, Any]:
    """The file as it is in a state, its time and size."""
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


def find_line(path: str, keys: Sequence[str]) -> int | None:
    """The line, from 1, where a file gives a setting; None where it cannot be told."""
    with open(path, encoding="utf-8") as file:
        node = yaml.compose(file, Loader=yaml.SafeLoader)
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == key), None)
            if pair is None:
                break
            line = pair[0].start_mark.line + 1
            node = pair[1]
    return line


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """One config laid over another, so that the class of each plug is known; another class brings its own arguments."""
    found = dict(base)
    for key, value in overlay.items():
        old = found.get(key)
        old = {"class_path": old} if isinstance(old, str) and isinstance(value, dict) else old
        other = isinstance(value, dict) and isinstance(old, dict) and value.get("class_path", old.get("class_path"))
        same = isinstance(value, dict) and isinstance(old, dict) and other == old.get("class_path")
        found[key] = merge(old, value) if same and isinstance(old, dict) else value
    return found


def nest(keys: Sequence[str], value: Any) -> Any:
    """The value under its keys, as a file would give it."""
    return {keys[0]: nest(keys[1:], value)} if keys else value
