"""Arms and their seeds: runs whose configs differ in nothing but a seed belong together."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from fdt.report.runs import Run

SEED = re.compile(r"seed_everything|(.*_)?seed")
"""Settings of a config that set a seed, a plug's own among them."""
STATED = ("data.seed", "model.seed", "seed_everything")
"""Where a config states its seed, the one that matters most first."""
PLACES = ("default_root_dir", "base_from", "ckpt_path")
"""Settings that say where a run writes or what it goes on from, not what it does."""
SEPARATORS = "-_./ "


@dataclass(frozen=True)
class Arm:
    """Runs of one config, a seed each."""

    name: str
    runs: list[Run]
    seeds: list[str]
    """One for each run; a run that states none has its place in the arm, from 1."""


def group_arms(runs: list[Run]) -> list[Arm]:
    """The arms in the order in which their first runs stand; a run without a config is an arm of its own."""
    members: dict[str, list[Run]] = {}
    for number, run in enumerate(runs):
        key = json.dumps(_strip(run.config), sort_keys=True, default=str) if run.config else f"run {number}"
        members.setdefault(key, []).append(run)
    names = _list_names(list(members.values()))
    return [Arm(name, group, _list_seeds(group)) for name, group in zip(names, members.values(), strict=True)]


def _strip(node: Any) -> Any:
    if isinstance(node, dict):
        kept = (key for key in node if key not in PLACES and not SEED.fullmatch(str(key)))
        return {str(key): _strip(node[key]) for key in kept}
    return [_strip(child) for child in node] if isinstance(node, list) else node


def _list_names(groups: list[list[Run]]) -> list[str]:
    """A run's own name where it is alone, else what the folders of the arm's runs have in common."""
    taken: Counter[str] = Counter()
    names = []
    for group in groups:
        name = group[0].name if len(group) == 1 else _find_common_name(group)
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return names


def _find_common_name(group: list[Run]) -> str:
    folders = {run.folder.resolve().name for run in group}
    if len(folders) == 1:
        return folders.pop()
    letters = takewhile(lambda several: len(set(several)) == 1, zip(*(run.name for run in group), strict=False))
    # A number whose first digits are the same is another number: seed-1000 and seed-1001 have no "seed-100" in common.
    common = "".join(several[0] for several in letters).rstrip("0123456789").rstrip(SEPARATORS)
    shortened = common.removesuffix("seed").removesuffix("s").rstrip(SEPARATORS) if common else ""
    above = {run.folder.resolve().parent.name for run in group}
    return shortened or (above.pop() if len(above) == 1 else common or group[0].name)


def _list_seeds(group: list[Run]) -> list[str]:
    """The first of the run's seeds in which all differ; their places where none is."""
    for key in STATED:
        found = [str(_look_up(run.config, key)) for run in group]
        if len(set(found)) == len(group) and "None" not in found:
            return found
    return [str(number) for number in range(1, len(group) + 1)]


def _look_up(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
