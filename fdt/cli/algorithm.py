"""The algorithm of a run whose config names none: both signals, as `algorithm/dspo` mixes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fdt.cli.run.arguments import list_config_files, list_flags, load_yaml
from fdt.resources import resolve

DEFAULT = "algorithm/dspo"
RECORDED = "--data.source=fdt.rollout.sources.Replay"


def add_default_algorithm(argv: Sequence[str]) -> list[str]:
    """The command with `algorithm/dspo` before its config files, where a fit names no terms to minimise.

    Where answers come from is no part of the algorithm: a run that does not say learns from the recorded ones.

    Args:
        argv: the verb and its arguments, config files as paths, before all options.
    """
    verb, *rest = argv
    contents = [load_yaml(path) for path in list_config_files(rest)]
    flags = [name.removeprefix("--") for name, _ in list_flags(rest)]
    named = any(flag.startswith("model.terms") for flag in flags)
    if verb != "fit" or named or any(list_values("model", "terms", contents)):
        return list(argv)
    sources = list_values("data", "source", contents)
    chosen = any(flag in ("data.source", "data.source.class_path") for flag in flags)
    chosen |= any(isinstance(source, str) or "class_path" in (source or {}) for source in sources)
    return [verb, "-c", str(resolve(DEFAULT)), *([] if chosen else [RECORDED]), *rest]


def list_values(block: str, key: str, contents: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The values of a setting in config files and in their arms."""
    arms = [content.get("arms") for content in contents]
    places = [*contents, *(arm for each in arms if isinstance(each, Mapping) for arm in each.values())]
    blocks = [place.get(block) for place in places if isinstance(place, Mapping)]
    return [found[key] for found in blocks if isinstance(found, Mapping) and key in found]
