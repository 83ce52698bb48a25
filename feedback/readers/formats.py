"""All formats, the ones with the most telling columns first: a file is of the first that its first record fits."""

from __future__ import annotations

from feedback.readers.argilla import ARGILLA
from feedback.readers.base import Format
from feedback.readers.distilabel import DISTILABEL
from feedback.readers.episodes import EPISODES
from feedback.readers.helpsteer import HELPSTEER
from feedback.readers.labelstudio import LABEL_STUDIO
from feedback.readers.oasst import OASST
from feedback.readers.openai import OPENAI
from feedback.readers.openclaw import OPENCLAW
from feedback.readers.prometheus import PROMETHEUS
from feedback.readers.rows import ROWS
from feedback.readers.shepherd import SHEPHERD
from feedback.readers.sweagent import SWEAGENT
from feedback.readers.trl import TRL
from feedback.readers.ultrafeedback import ULTRAFEEDBACK
from feedback.readers.webui import WEBUI

READERS: tuple[Format, ...] = (
    SHEPHERD, *HELPSTEER, *ULTRAFEEDBACK, PROMETHEUS, DISTILABEL, ARGILLA, LABEL_STUDIO, *OASST, OPENCLAW, SWEAGENT,
    WEBUI, OPENAI, *TRL, EPISODES, ROWS)
