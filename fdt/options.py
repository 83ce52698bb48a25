"""Command lines: the nearest option where one is misspelt, and numbers that make sense."""

from __future__ import annotations

import argparse
import math
import re
import sys
from typing import Any, NoReturn

from fdt.errors import find_nearest


class Parser(argparse.ArgumentParser):
    """A command line that names the nearest option or command where one is misspelt."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; exits with 2 for what it does not know."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            wrong = next((word for word in rest if word.startswith("-")), rest[0])
            near = find_nearest(wrong.partition("=")[0], self.list_options())
            self.error(f"unrecognized arguments: {' '.join(rest)}" + (f" (did you mean {near}?)" if near else ""))
        return found

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, with the nearest choice, and exits with 2."""
        wrong = re.search("invalid choice: '([^']*)'", message)
        choices = (str(choice) for action in self._actions for choice in action.choices or ())
        near = find_nearest(wrong[1], choices) if wrong else None
        super().error(message + (f" (did you mean {near}?)" if near else ""))

    def list_options(self) -> list[str]:
        """The options of this command line and of all its commands."""
        inner = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        below = [option for choices in inner for each in choices.values() for option in each.list_options()]
        return [*self._option_string_actions, *below]


def read_count(text: str, least: int = 1) -> int:
    """A number of an option that counts, from ``least`` on."""
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer, at least {least}")
    return int(text)


def read_size(text: str) -> int:
    """The same, from 0 on."""
    return read_count(text, 0)


def read_positive(text: str) -> float:
    """A finite number of an option, above 0."""
    return _read_number(text, math.nextafter(0.0, 1.0), sys.float_info.max, "a number above 0")


def read_share(text: str) -> float:
    """A share of an option, from 0 to 1."""
    return _read_number(text, 0.0, 1.0, "a number from 0 to 1")


def _read_number(text: str, low: float, high: float, expected: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
    return found
