"""What a mutant is: one place of the code, made wrong on purpose, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    breaks: str
    """What goes wrong, in words."""
    path: str
    """The file, from the root of the repository."""
    old: str
    """Its text, which stands there once."""
    new: str
    """The text in its place."""
    test: str
    """The test that fails, as pytest names it; several with blanks between them."""

    def apply(self, root: Path) -> str:
        """Writes the mistake into a copy of the repository; gives the text that the file had.

        Raises:
            ValueError: where the old text does not stand in the file exactly once.
        """
        file = root / self.path
        text = file.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path}: the text of {self.breaks!r} stands there {text.count(self.old)} times")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text
