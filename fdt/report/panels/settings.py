"""The configs of the arms, flat: what they share and where they differ."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from fdt.report.runs import Run

SECRET = re.compile(
    r"(api_?keys?|secrets?|passw(or)?d|passphrase|credentials?|authorization|cookie|bearer|(^|_)auth|(^|[^a-z])tokens?"
    r"|[a-z]token|private_?key|access_?key)$",
    re.IGNORECASE,
)
"""Keys that name a secret by their end; `max_tokens`, a number, stays."""
USER_IN_URL = re.compile(r"(?<=://)[^/\s@]{1,400}@")
HIDDEN = "(hidden)"
MAIN = re.compile(
    r"(seed_everything|trainer\.(max_steps|max_epochs|devices|strategy|precision)"
    r"|model\.(base|lora|lora\.rank|teacher.*)|model\.(terms\.\w+(\.gate)?|coefficients\..*)"
    r"|model\.optimizer|.*\.(lr|max_new_tokens|temperature)"
    r"|data\.(file|heldout|shuffle_critiques|source.*|credit|grader|hint|rewriter|rewriter\.grader|evaluation))$"
)
"""The settings that show what was run; the others stay in a folded list."""
PLAIN = ("None", "{}", "[]", "False", "objectives.All")
"""Nothing is set, or a gate lets every row through."""
FOLDER = "trainer.default_root_dir"
"""Differs between any two arms and is of no interest."""
ABSENT = "–"


@dataclass(frozen=True)
class Settings:
    """Dotted key -> value: of each arm in the order of `names` where they differ, else the one they share."""

    names: list[str]
    differing: dict[str, list[str]]
    main: dict[str, str]
    others: dict[str, str]
    files: dict[str, str]  # arm -> its whole config as YAML


def collect_settings(runs: list[Run]) -> Settings:
    """Flattens the configs; values under keys that name a secret are hidden."""
    flat = [_flatten(hide_secrets(run.config)) for run in runs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    values = {key: [one.get(key, ABSENT) for one in flat] for key in keys}
    shared = {key: row[0] for key, row in values.items() if len(set(row)) == 1 and row[0] != "None"}
    main = {key for key, value in shared.items() if MAIN.match(key) and value not in PLAIN}
    return Settings(
        names=[run.name for run in runs],
        differing={key: row for key, row in values.items() if len(set(row)) > 1 and key != FOLDER},
        main={key: value for key, value in shared.items() if key in main},
        others={key: value for key, value in shared.items() if key not in main},
        files={run.name: yaml.safe_dump(hide_secrets(run.config), sort_keys=False, allow_unicode=True) for run in runs},
    )


def _flatten(node: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(node, list) and any(isinstance(child, dict) for child in node):
        node = dict(enumerate(node))
    if not (isinstance(node, dict) and node):
        return {prefix: str(node)}
    flat: dict[str, str] = {}
    for key, child in node.items():
        # A plug is named by its class, its arguments stand below it: the two levels that only YAML needs go.
        plain = key in ("class_path", "init_args") and prefix
        flat |= _flatten(child, prefix if plain else f"{prefix}.{key}" if prefix else str(key))
    return flat


def hide_secrets(node: Any) -> Any:
    """The same settings with what stands under a key that names a secret left out."""
    if isinstance(node, dict):
        return {key: HIDDEN if is_secret(str(key), child) else hide_secrets(child) for key, child in node.items()}
    if isinstance(node, str):
        return USER_IN_URL.sub(f"{HIDDEN}@", node)
    return [hide_secrets(child) for child in node] if isinstance(node, list) else node


def is_secret(key: str, value: Any) -> bool:
    """Whether a setting holds a secret: its key says so, and it is neither empty nor a number."""
    return bool(value) and not isinstance(value, int | float) and SECRET.search(key.replace("-", "_")) is not None
