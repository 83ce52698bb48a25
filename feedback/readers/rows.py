"""The canonical row: one response a record, in JSON Lines, CSV or Parquet.

Columns: `id`, `task` (rows with equal `task`, else equal prompt, form a group), `prompt` (text or a list of messages),
`response`, and any of `score`, `critique`, `revision`, `reference`, `annotator`, `source` (human, llm, environment,
policy). Further columns go to `task.meta`; a null or an empty CSV cell is an absent value.
"""

from __future__ import annotations

import math
from typing import Any

from feedback.faults import DataFault, show
from feedback.readers.record import Record
from feedback.types import Episode, Feedback, Message, Task, Turn, prompt_key

COLUMNS = ("id", "task", "prompt", "response", "score", "critique", "revision", "reference", "annotator", "source")
SOURCES = ("human", "llm", "environment", "policy")
ROLES = ("system", "developer", "user", "assistant", "tool")


class Fields:
    """The checked reading of one record: each method returns a usable value and notes what is wrong in `faults`."""

    def __init__(self, record: Record):
        self.record = record
        self.faults: list[DataFault] = []

    def refuse(self, name: str, got: Any, expected: str, remedy: str = "") -> None:
        """Notes one fault of the field `name`."""
        self.faults.append(self.record.fault(name, "nothing" if got is None else show(got), expected, remedy))

    def get(self, path: str) -> Any:
        """The value at a dotted path, None where it is absent."""
        value: Any = self.record.fields
        if "." not in path:
            return value.get(path)
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def text(self, path: str, required: bool = False) -> str | None:
        """A text; an empty one is absent."""
        value = self.get(path)
        if value is not None and not isinstance(value, str):
            self.refuse(path, value, "text")
        elif not value and required:
            self.refuse(path, value, "text that is not empty", "Fill it or leave the row out.")
        return value if isinstance(value, str) and value else None

    def label(self, path: str) -> str | None:
        """A name: text, or an integer written out."""
        value = self.get(path)
        if isinstance(value, int) and not isinstance(value, bool):
            return show(value)
        if value is not None and not isinstance(value, str):
            self.refuse(path, value, "text or an integer")
        return value if isinstance(value, str) and value else None

    def number(self, path: str) -> float:
        """A finite number, NaN only where it is absent."""
        value = self.get(path)
        if value is None:
            return math.nan
        found = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found = _float(value)
        elif isinstance(value, str) and self.record.textual and "_" not in value:
            found = _float(value)
        if not math.isfinite(found):
            self.refuse(path, value, "a finite number", "Leave it out where there is no score.")
            return math.nan
        return found

    def messages(self, path: str) -> tuple[Message, ...]:
        """A prompt: text becomes one user message, a list of messages stays one."""
        value = self.get(path)
        if isinstance(value, list) and value:
            return self._chat(path, value)
        if isinstance(value, str) and value:
            return ({"role": "user", "content": value},)
        self.refuse(path, value, "text, or a list of messages {role, content}", "Fill it or leave the row out.")
        return ()

    def _chat(self, path: str, value: list[Any]) -> tuple[Message, ...]:
        found: list[Message] = []
        for number, message in enumerate(value):
            place = f"{path}[{number}]"
            if isinstance(message, dict):  # Parquet gives every struct all keys, with nulls
                message = {key: part for key, part in message.items() if part is not None}
            if not isinstance(message, dict) or set(message) != {"role", "content"}:
                self.refuse(place, message, "an object with role and content alone")
            elif message["role"] not in ROLES:
                self.refuse(f"{place}.role", message["role"], "one of " + ", ".join(ROLES))
            elif not isinstance(message["content"], str):
                self.refuse(f"{place}.content", message["content"], "text")
            else:
                found.append({"role": message["role"], "content": message["content"]})
        if len(found) == len(value):
            if found[-1]["role"] not in ("user", "tool"):
                self.refuse(f"{path}[-1].role", found[-1]["role"], "user or tool, which the response answers")
            elif all(message["role"] != "user" for message in found):
                self.refuse(path, value, "at least one message of the user")
        return tuple(found)


def _float(value: int | float | str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def row_task(fields: Fields, key: str | None = None) -> Task:
    """The task of a row: its prompt, its reference, and every further column as meta."""
    messages = fields.messages("prompt")
    meta = {name: value for name, value in fields.record.fields.items() if name not in COLUMNS and value is not None}
    if "preferences" in meta or "scores" in meta:
        name = "preferences" if "preferences" in meta else "scores"
        fields.refuse(name, meta[name], "one number in `score`", f"Rename {name} to keep it as a note.")
    key = key or fields.label("task") or prompt_key(messages)
    return Task(key, messages, fields.text("reference"), meta=meta)


def row_episode(fields: Fields) -> Episode:
    """One row as an episode of one turn, its score still on the file's scale; faults are noted in `fields`."""
    record = fields.record
    task = row_task(fields)
    response = fields.text("response", required=True) or ""
    source = fields.text("source") or "human"
    if source not in SOURCES:
        fields.refuse("source", source, "one of " + ", ".join(SOURCES), "Rename the column to keep it as a note.")
    item = Feedback(source, fields.label("annotator"), "score", fields.number("score"), fields.text("critique"),
                    None, fields.text("revision"))
    said = any(fields.get(name) is not None for name in ("score", "critique", "revision", "annotator", "source"))
    name = fields.label("id") or f"{record.unit}-{record.line}"
    return Episode(name, task, (Turn("assistant", response),), (item,) if said else ())


def row_of(episode: Episode) -> dict[str, Any]:
    """The canonical record of an episode whose feedback is at most one score, critique and revision.

    Raises ValueError for several scored or critiqued items, which one row cannot hold.
    """
    if len(episode.feedback) > 1:
        raise ValueError(f"episode {episode.id}: got {len(episode.feedback)} feedback items, expected at most one")
    messages = episode.task.messages
    alone = len(messages) == 1 and messages[0]["role"] == "user"
    row: dict[str, Any] = {
        "id": episode.id, "task": episode.task.key, "prompt": messages[0]["content"] if alone else list(messages),
        "response": episode.response, "reference": episode.task.reference,
    }
    for item in episode.feedback:
        row |= {"score": None if math.isnan(item.score) else item.score, "critique": item.text,
                "revision": item.revision, "annotator": item.annotator, "source": item.source}
    notes = {name: value for name, value in episode.task.meta.items() if name not in COLUMNS}
    return {name: row[name] for name in COLUMNS if row.get(name) is not None} | notes
