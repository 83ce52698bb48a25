"""All formats, the ones with the most telling columns first: a file is of the first that its first record fits."""

from __future__ import annotations

from feedback.readers.base import Format
from feedback.readers.episodes import EPISODES
from feedback.readers.rows import ROWS
from feedback.readers.shepherd import SHEPHERD

READERS: tuple[Format, ...] = (SHEPHERD, EPISODES, ROWS)
