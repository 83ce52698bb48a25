"""What stands beside the prompt, where the policy would not read it: words of a system, an input, pictures."""

from __future__ import annotations

from collections.abc import Sequence

from feedback.faults import DataError, format_value
from feedback.readers.base import Reader
from feedback.readers.columns.fit import CONFIG, Values
from feedback.readers.columns.mapping import NOTE, SYSTEM, TURNS, format_map
from feedback.readers.columns.names import names_system, split_name
from feedback.readers.record import Record

PLAIN = ("rows", "prompts", "episodes", "trl-completion", "trl-privileged", "trl-preference")
"""Formats whose further columns are anybody's; the others give theirs a meaning."""
INPUTS = frozenset(
    "input inputs context contexts history passage passages document documents image images picture pictures video "
    "videos audio audios".split()
)
"""Columns of what was asked about, in lower case: Alpaca's `input`, what was retrieved, earlier turns, pictures."""
THOUGHTS = frozenset({"reasoning_content", "reasoning", "thinking", "tool_calls", "prefill"})
"""Columns of what the policy thought or called beside its words."""
EXPECTED = "all that the policy reads in the prompt"


def check_beside(path: str, reader: Reader, head: Sequence[Record], notes: Values) -> None:
    """Raises `DataError` for words of a system or an input that stand beside the prompt, in columns of their own."""
    _check_system(path, head, notes)
    if reader.name not in PLAIN:
        return
    _check_thoughts(path, notes)
    name = next((name for name, values in notes.items() if _is_input(name) and any(values)), None)
    if name is not None:
        keep = _offer_note(name)
        remedy = f"Write it into the prompt (pictures and sounds are not read), or type {keep}"
        raise DataError(
            path, None, "columns", f"what may be a part of the prompt: {format_value(name)}", EXPECTED, remedy
        )


def _offer_note(name: str) -> str:
    """The map that keeps a column as a note."""
    return f"{format_map({f'{NOTE}{name}': name})} to keep it as a note{CONFIG}"


def _check_thoughts(path: str, notes: Values) -> None:
    """Raises `DataError` for what the policy thought or called, in a column beside its response."""
    for name, values in notes.items():
        if name.lower() in THOUGHTS and any(values):
            keep = _offer_note(name)
            remedy = f"Write the response as a message {{role: assistant, content, {name}}}, or type {keep}"
            got = f"what may be a part of the response: {format_value(name)}"
            raise DataError(path, None, "columns", got, "all that the policy said in the response", remedy)


def _is_input(name: str) -> bool:
    """Whether a column is one of what was asked about: `context`, and `chat_history` by its last word."""
    words = split_name(name)
    return name.lower() in INPUTS or (len(words) > 1 and words[-1] in INPUTS | {"conversation", "messages"})


def _check_system(path: str, head: Sequence[Record], notes: Values) -> None:
    """Raises `DataError` for words of a system that stand beside the prompt, where the policy would not read them."""
    name = next((name for name, values in notes.items() if names_system(name, values)), None)
    if name is None:
        return
    keep = f"{format_map({f'{NOTE}{name}': name})} to keep them as a note{CONFIG}"
    typed = f"Type {format_map({SYSTEM: name})} to put them before it"
    if not any(place in record.fields for record in head for place in TURNS):
        typed = "Write them into the prompt, as its first message"
    got = f"words of a system that nothing reads: {format_value(name)} (text)"
    raise DataError(path, None, "columns", got, EXPECTED, f"{typed}, or {keep}")
