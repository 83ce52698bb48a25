"""Templates of what teachers and rewriters read: an operator's file with {names}, filled with a stranger's words.

There is no template language on purpose. Names are replaced in one pass over the file's own text, so a value's braces
stay letters, whatever they spell; and a file cannot do more than place the values below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from feedback.faults import DataError

NAMES = ("critique", "sibling", "revision", "demonstration", "reference", "response", "skills")
PLACEHOLDER = re.compile(r"\{(" + "|".join(NAMES) + r")\}")

Values = Mapping[str, str | None]


@lru_cache(maxsize=64)
def load_template(name: str) -> str:
    """The text of a template: a bare name is looked up in `feedback/prompts`, anything else is a path.

    Raises `DataError` where neither is a file.
    """
    own = files("feedback") / "prompts" / name
    if "/" not in name and own.is_file():
        return own.read_text(encoding="utf-8").rstrip("\n")
    path = Path(name)
    if not path.is_file():
        shipped = ", ".join(sorted(item.name for item in (files("feedback") / "prompts").iterdir()))
        raise DataError(name, None, "template", "no file", f"a path, or one of {shipped}")
    return path.read_text(encoding="utf-8").rstrip("\n")


def fill_template(template: str, values: Values) -> str | None:
    """The template with its names replaced; None when a value that it asks for is absent."""
    if any(values.get(name) is None for name in PLACEHOLDER.findall(template)):
        return None
    return PLACEHOLDER.sub(lambda match: values[match[1]] or "", template)


def compose_template(template: str, values: Values) -> str | None:
    """The template without the paragraphs that ask for an absent value; None when no paragraph with a name is left.

    Paragraphs are separated by blank lines of the template; blank lines inside a value separate nothing. A paragraph
    without names ("Answer again.") stays as long as another says something.
    """
    paragraphs = re.split(r"\n\s*\n", template)
    kept = [text for part in paragraphs if (text := fill_template(part, values)) is not None]
    asked = [part for part in paragraphs if PLACEHOLDER.search(part)]
    return "\n\n".join(kept) if any(fill_template(part, values) is not None for part in asked) else None
