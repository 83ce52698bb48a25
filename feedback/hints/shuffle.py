"""The control for critiques: the same words, about other rows."""

from __future__ import annotations

import random
from dataclasses import replace

from feedback.types import Episode, Feedback, attach_hints


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
        given = tuple(
            Feedback(item.source, item.annotator, item.name, text=item.text)
            for item in episodes[donor].feedback
            if item.text is not None
        )
        shuffled[row] = replace(episodes[row], feedback=own + given)
    return attach_hints(shuffled)
