"""The one exception for mistakes that a user can correct, printed without a traceback; the nearest known name."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A setting, file or command that cannot work as given.

    The message reads ``path: key: what: got X, expected Y. Remedy.``, leaving out whatever is not given.
    `fdt` prints it to stderr and exits with code 2.
    """

    def __init__(
        self,
        what: str,
        got: object = None,
        expected: object = None,
        remedy: str | None = None,
        key: str | None = None,
        path: object = None,
    ) -> None:
        """Args:
        what: what is wrong, in a few words.
        got: the value as given.
        expected: what would have been accepted.
        remedy: what to do about it, a full sentence.
        key: dotted name of the setting, as in ``model.name``.
        path: the file the setting or the data came from.
        """
        # All fields go into `args`, so that the exception survives pickling between processes.
        super().__init__(what, got, expected, remedy, key, path)
        self.what = what
        self.got = got
        self.expected = expected
        self.remedy = remedy
        self.key = key
        self.path = path

    def __str__(self) -> str:
        where = "".join(f"{part}: " for part in (self.path, self.key) if part is not None)
        facts = []
        if self.got is not None:
            facts.append(f"got {self.got!r}" if isinstance(self.got, str) else f"got {self.got}")
        if self.expected is not None:
            facts.append(f"expected {self.expected}")
        sentences = [": ".join(filter(None, (self.what.rstrip("."), ", ".join(facts))))]
        if self.remedy:
            sentences.append(self.remedy[0].upper() + self.remedy[1:])
        return where + " ".join(text if text[-1] in ".?!" else f"{text}." for text in sentences)


class Interrupted(Exception):
    """A signal ended the run; `fdt` prints the message and exits as shells expect, with 128 + the signal's number."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, what)
        self.exit_code = 128 + number
        self.what = what

    def __str__(self) -> str:
        return self.what


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is likeliest meant to be; None where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def suggest_nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for a misspelt name: the nearest known one, else what is said otherwise."""
    near = find_nearest(name, known)
    return otherwise if near is None else f"Did you mean {near!r}?"


@contextmanager
def explain_plug_errors() -> Iterator[None]:
    """
    Raises:
        UserError: where a term, gate, weight or schedule refuses its input: with its message, file and line.
    """
    try:
        yield
    except ValueError as fault:
        frames = traceback.extract_tb(fault.__traceback__)
        where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name}"
        raise UserError(str(fault), key="model.terms", remedy=f"raised in {where}") from fault
