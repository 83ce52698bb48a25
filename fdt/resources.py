"""Configs and sample files that come with the package, found by name from a checkout and from a wheel alike."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml

from fdt.errors import UserError, suggest_nearest
from fdt.options import Parser

PACKAGE = Path(__file__).resolve().parent
SUFFIXES = (".yaml", ".yml")
MOST_VALUES = 100_000
"""Values that a YAML file may come to once its aliases are written out."""


def parse_yaml(text: str) -> Any:
    """Plain data; refused where aliases would make it endless or huge, since whoever walks through it pays for each.

    Raises:
        yaml.YAMLError: no YAML, or more than `MOST_VALUES` values.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _count_values(node, {})
        return yaml.safe_load(text)
    except (ValueError, OverflowError, RecursionError) as error:  # a day that no month has, brackets without an end
        raise yaml.YAMLError(f"a value that cannot be read: {error}") from error


def _count_values(node: yaml.Node, known: dict[int, int | None]) -> int:
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.YAMLError("an alias that stands for what it is part of")
        return count
    known[id(node)] = None
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1 + sum(_count_values(part, known) for part in parts if isinstance(part, yaml.Node))
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, aliases written out")
    known[id(node)] = count
    return count


def find_configs_root() -> Path:
    """The folder of the shipped configs: inside the package in a wheel, beside it in a checkout."""
    packed = PACKAGE / "configs"
    return packed if packed.is_dir() else PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names of all shipped configs, as in `quickstart` and `task/shepherd`, sorted."""
    root = find_configs_root()
    files = (path for path in root.rglob("*") if path.suffix in SUFFIXES)
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in files)


def resolve(name: str | Path) -> Path:
    """The file behind a config's name or path; an existing file wins over a shipped one of the same name.

    Args:
        name: a path, or a shipped config's name with or without its suffix, as in `task/shepherd`.

    Raises:
        UserError: neither a file nor a shipped config has that name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if shipped := _find_within(find_configs_root(), str(name), ("", *SUFFIXES)):
        return shipped
    stem = str(name).removesuffix(".yaml").removesuffix(".yml").removeprefix("configs/")
    raise UserError(
        "no such config",
        got=str(name),
        expected="a YAML file or the name of a shipped config",
        remedy=suggest_nearest(stem, list_configs(), "`fdt configs` lists the shipped ones."),
    )


def resolve_arguments(argv: list[str]) -> list[str]:
    """The command line with every `-c NAME`, `--config NAME` and `--config=NAME` turned into a path.

    Raises:
        UserError: a config that is neither a file nor shipped.
    """
    resolved: list[str] = []
    for previous, argument in zip(["", *argv], argv, strict=False):
        if previous in ("-c", "--config"):
            argument = str(resolve(argument))
        elif argument.startswith("--config="):
            argument = f"--config={resolve(argument.removeprefix('--config='))}"
        resolved.append(argument)
    return resolved


def find_sample(name: str) -> Path:
    """The bundled feedback file of that name, as in `sums.jsonl`.

    Raises:
        UserError: no such sample.
    """
    spec = importlib.util.find_spec("feedback")  # finds the folder without importing the package
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]) / "samples"
    if path := _find_within(root, name, ("",)):
        return path
    files = (entry for entry in root.rglob("*") if entry.is_file() and entry.suffix not in (".py", ".pyc"))
    present = sorted(entry.relative_to(root).as_posix() for entry in files)
    near = [*present, *(entry.name for entry in Path().iterdir() if entry.is_file())]
    remedy = f"Check the path; relative ones start at {Path().absolute()}. Of samples there are: {', '.join(present)}."
    raise UserError(
        "no such file or sample",
        got=name,
        expected="a file of yours, or one of feedback/samples",
        remedy=suggest_nearest(name, near, remedy),
    )


def describe(path: Path) -> str:
    """The first comment line of a config, which says what it is for; empty where the file has none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")


def main(argv: list[str]) -> int:
    """Runs `fdt configs [NAME]` and returns its exit code.

    Raises:
        UserError: no shipped config has the name.
    """
    parser = Parser(prog="fdt configs", description="List the shipped configs, or print one.", allow_abbrev=False)
    parser.add_argument("name", nargs="?", help="as in quickstart or task/shepherd; all are listed without it")
    name = parser.parse_args(argv).name
    if name is not None:
        print(resolve(name).read_text(encoding="utf-8"), end="")
        return 0
    width = max(map(len, list_configs()), default=0)
    for known in list_configs():
        print(f"{known:<{width}}  {describe(resolve(known))}".rstrip())
    return 0


def _find_within(root: Path, name: str, suffixes: tuple[str, ...]) -> Path | None:
    """The first file `root/name+suffix` that does not lead out of root."""
    candidates = (root / f"{name}{suffix}" for suffix in suffixes)
    inside = (path for path in candidates if path.resolve().is_relative_to(root.resolve()))
    return next((path for path in inside if path.is_file()), None)
