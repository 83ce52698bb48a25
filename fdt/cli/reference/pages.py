"""The pages of the reference, as Markdown; the same plugs give the same text."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import yaml

from fdt.cli.reference.entries import Argument, Entry, build_entry
from fdt.cli.reference.plugs import Kind, find_plugs, read_kinds

NOTE = "<!-- Written by `make reference` from the docstrings: edit those, not this page. -->"
SHOWN = 4
"""Most arguments in an example that nobody has written."""


@cache
def list_entries(kind: Kind) -> tuple[Entry, ...]:
    """The entries of a kind."""
    return tuple(build_entry(plug, kind.given) for plug in find_plugs(kind))


def write_pages() -> dict[str, str]:
    """The text of each page, by file name."""
    kinds = read_kinds()
    names = list(dict.fromkeys(kind.page for kind in kinds))
    pages = {f"{name}.md": write_page([kind for kind in kinds if kind.page == name]) for name in names}
    return {"README.md": write_index(kinds), **pages}


def write_index(kinds: tuple[Kind, ...]) -> str:
    """What there is, page by page."""
    lines = [
        "# Reference",
        "",
        "Every class and function that a config can name, with its arguments, their defaults and an example.",
        "`fdt reference` prints the same in the terminal: `fdt reference graders`, `fdt reference NumberMatch`.",
        "",
        "An argument without a default must be given. Numbers in [brackets] say the unit of what stands before them.",
        "",
    ]
    for page in dict.fromkeys(kind.page for kind in kinds):
        own = [kind for kind in kinds if kind.page == page]
        headings = [[kind.title, *(entry.name for entry in list_entries(kind))] for kind in own]
        anchors = iter(number_anchors([heading for each in headings for heading in each]))
        for kind, (title, *names) in zip(own, headings, strict=True):
            lines += [f"**[{title}]({page}.md#{next(anchors)})**: {kind.about}", ""]
            lines += [", ".join(f"[{name}]({page}.md#{next(anchors)})" for name in names), ""]
    return "\n".join([NOTE, "", *lines]).rstrip() + "\n"


def write_page(kinds: list[Kind]) -> str:
    """The page of some kinds."""
    parts = [NOTE, ""]
    for kind in kinds:
        parts += [f"# {kind.title}", "", kind.about, ""]
        for entry in list_entries(kind):
            parts += [write_entry(entry, kind), ""]
    return "\n".join(parts).rstrip() + "\n"


def write_entry(entry: Entry, kind: Kind) -> str:
    """One plug."""
    parts = [f"## {entry.name}", "", f"`{entry.path}`", "", entry.text, ""]
    if entry.metrics:
        parts += [entry.metrics, ""]
    if entry.arguments:
        parts += ["| Argument | Type | Default | Meaning |", "|---|---|---|---|"]
        parts += [*map(format_row, entry.arguments), ""]
    if entry.sources:
        links = [f"[arXiv {name}](https://arxiv.org/abs/{name})" for name in entry.sources]
        parts += [f"Source: {', '.join(links)}", ""]
    parts += ["```yaml", format_example(entry, kind), "```"]
    return "\n".join(parts)


def format_row(argument: Argument) -> str:
    """An argument as a row of a table."""
    default = "" if argument.default is None else f"`{argument.default}`"
    cells = [f"`{argument.name}`", f"`{argument.type}`", default, argument.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def format_example(entry: Entry, kind: Kind) -> str:
    """A config that names the plug."""
    return yaml.safe_dump(
        build_example(entry, kind), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    ).rstrip()


def build_example(entry: Entry, kind: Kind) -> dict[str, Any]:
    """The same as data."""
    own = kind.examples.get(entry.name, {})
    return substitute(own.get("where", kind.where), build_node(entry, kind, own.get("args")), snake(entry.name))


def build_node(entry: Entry, kind: Kind, args: dict[str, Any] | None) -> Any:
    """A plug as it is written in a config."""
    if kind.named:
        return args["name"] if args else entry.plug.name
    if not isinstance(entry.plug, type):
        return entry.path
    if args is None:
        simple = [item for item in entry.arguments if item.default is not None and is_simple(item.default)]
        args = {item.name: yaml.safe_load(item.default or "") for item in simple[:SHOWN]}
    if kind.settings:
        return args
    return {"class_path": entry.path, **({"init_args": args} if args else {})}


def is_simple(default: str) -> bool:
    """Whether a default is a number, a word or a truth value."""
    return default != "null" and re.fullmatch(r"-?[\w.]+", default) is not None and "objectives." not in default


def substitute(node: Any, plug: Any, name: str) -> Any:
    """A config with the plug in place of PLUG, and its name in place of NAME."""
    if node == "PLUG":
        return plug
    if isinstance(node, dict):
        return {name if key == "NAME" else key: substitute(value, plug, name) for key, value in node.items()}
    if isinstance(node, list):
        return [substitute(value, plug, name) for value in node]
    return node


def snake(name: str) -> str:
    """A class's name in small letters: `ReferenceKL` is `reference_kl`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def slugify(heading: str) -> str:
    """GitHub's name for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def number_anchors(headings: list[str]) -> list[str]:
    """GitHub's names for the headings of a page, in order; equal ones are numbered."""
    seen: Counter[str] = Counter()
    found = []
    for slug in map(slugify, headings):
        found.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
