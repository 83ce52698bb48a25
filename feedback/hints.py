"""What only the teacher reads: the student's prompt with a hint at the end of its last user message."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from feedback.faults import DataFault
from feedback.types import Episode, Feedback, Message, with_hints

PLACEHOLDER = re.compile(r"\{(critique|revision|reference|response)\}")


class Hint(ABC):
    """Whispers to the teacher."""

    @abstractmethod
    def __call__(self, episode: Episode) -> list[Message] | None:
        """The messages the teacher reads before the student's own tokens; None when there is nothing to whisper."""


@dataclass(frozen=True)
class CritiqueHint(Hint):
    """Fills a template with what is known about the episode and ends the last user message with it."""

    template: str = "critique.txt"
    """A file of `feedback/prompts`, or a path. {critique}, {revision}, {reference} and {response} are filled in."""
    recorded: bool = False
    """True: where the episode has no critique of its own, the first one recorded for its task is whispered."""

    def __call__(self, episode: Episode) -> list[Message] | None:
        """Messages for the teacher; None when a value that the template asks for is absent."""
        critique = episode.critique
        if critique is None and self.recorded and episode.task.hints:
            critique = episode.task.hints[0]
        text = filled(load_template(self.template), episode, critique)
        return None if text is None else placed(episode.task.messages, text)


def placed(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with `text` after a blank line at the end of the last user message.

    Raises ValueError where no message is the user's.
    """
    last = max((number for number, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        raise ValueError("prompt: got no user message, expected one that the hint can follow")
    found = [dict(message) for message in messages]
    found[last]["content"] = f"{found[last]['content']}\n\n{text}"
    return found


@lru_cache(maxsize=64)
def load_template(name: str) -> str:
    """The text of a template: a bare name is looked up in `feedback/prompts`, anything else is a path.

    Raises `DataFault` where neither is a file.
    """
    own = files("feedback") / "prompts" / name
    if "/" not in name and own.is_file():
        return own.read_text(encoding="utf-8").rstrip("\n")
    path = Path(name)
    if not path.is_file():
        shipped = ", ".join(sorted(item.name for item in (files("feedback") / "prompts").iterdir()))
        raise DataFault(name, None, "template", "no file", f"a path, or one of {shipped}")
    return path.read_text(encoding="utf-8").rstrip("\n")


def filled(template: str, episode: Episode, critique: str | None) -> str | None:
    """The template with its placeholders replaced in one pass, so that a value's own braces stay text.

    None when a value that it asks for is absent.
    """
    values = {"critique": critique, "revision": episode.revision, "reference": episode.task.reference,
              "response": episode.response or None}
    if any(values[name] is None for name in PLACEHOLDER.findall(template)):
        return None
    return PLACEHOLDER.sub(lambda match: values[match[1]] or "", template)


def shuffle_critiques(episodes: list[Episode], seed: int = 0) -> list[Episode]:
    """The control: every critique moves to another row that had one; scores and revisions stay.

    The critiques of a row move together; task hints follow. With fewer than two critiqued rows, or where all
    say the same, a row may keep its words.
    """
    rows = [number for number, episode in enumerate(episodes) if episode.critique is not None]
    random.Random(seed).shuffle(rows)
    donors = dict(zip(rows, rows[1:] + rows[:1], strict=True))  # one cycle: nobody keeps his own
    shuffled = list(episodes)
    for row, donor in donors.items():
        own = tuple(item if item.text is None else replace(item, text=None) for item in episodes[row].feedback)
        given = tuple(Feedback(item.source, item.annotator, item.name, text=item.text)
                      for item in episodes[donor].feedback if item.text is not None)
        shuffled[row] = replace(episodes[row], feedback=own + given)
    return with_hints(shuffled)
