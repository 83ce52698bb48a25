"""`fdt reference [NAME] [--out FOLDER]`: the reference in the terminal, or as pages."""

from __future__ import annotations

from pathlib import Path

from fdt.errors import UserError, suggest_nearest
from fdt.options import Parser


def main(argv: list[str]) -> int:
    """Runs the verb; returns its exit code.

    Raises:
        UserError: no kind and no plug has that name.
    """
    parser = Parser(
        prog="fdt reference",
        description="Every class and function that a config can name, with arguments and example.",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="a page, such as graders, or a plug, such as NumberMatch")
    parser.add_argument("--out", type=Path, help="a folder for all pages; they are written anew")
    asked = parser.parse_args(argv)
    if asked.out is not None:
        save_pages(asked.out)
    else:
        print(find_text(asked.name), end="")
    return 0


def save_pages(folder: Path) -> None:
    """Writes the pages, and removes those of kinds that are gone."""
    from fdt.cli.reference.pages import write_pages

    folder.mkdir(parents=True, exist_ok=True)
    pages = write_pages()
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{len(pages)} pages in {folder}")


def find_text(name: str | None) -> str:
    """The list of all plugs, a page, or the entry of one.

    Raises:
        UserError: no page and no plug has that name.
    """
    from fdt.cli.reference.pages import list_entries, write_entry, write_page
    from fdt.cli.reference.plugs import read_kinds

    kinds = read_kinds()
    if name is None:
        lines = [f"{kind.page:<14} {', '.join(entry.name for entry in list_entries(kind))}" for kind in kinds]
        return "\n".join([*lines, "", "`fdt reference NAME` explains a page or a plug.", ""])
    if chosen := [kind for kind in kinds if kind.page == name]:
        return write_page(chosen)
    entries = [(entry, kind) for kind in kinds for entry in list_entries(kind)]
    if found := [write_entry(entry, kind) for entry, kind in entries if name in (entry.name, entry.path)]:
        return "\n\n".join(found) + "\n"
    known = [*(kind.page for kind in kinds), *(entry.name for entry, _ in entries)]
    remedy = suggest_nearest(name, known, "`fdt reference` lists them all.")
    raise UserError("no such page or plug", got=name, expected="a name that `fdt reference` lists", remedy=remedy)
